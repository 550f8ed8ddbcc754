//! What this proxy sent to other proxies of the machine.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use sidecar_common::bypass::{Answer, FALLBACKS, Fallback, seen};

use super::hop::State;

/// Over all hops, as they are asked. A handle: clones share it.
#[derive(Clone, Default, Debug)]
pub struct Meter(Arc<Sums>);

#[derive(Default, Debug)]
struct Sums {
    hops: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    broken: AtomicU64,
    fallbacks: [AtomicU64; FALLBACKS],
}

impl Meter {
    /// A hop was enrolled.
    pub(super) fn enrolled(&self) {
        self.0.hops.fetch_add(1, Ordering::Relaxed);
    }

    /// What was known of a hop, and what the kernel half says of it now.
    pub(super) fn add(&self, before: &State, now: &Answer) {
        let add = |sum: &AtomicU64, before: u64, now: u64| {
            sum.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        };
        let (sent, sums) = (&now.to_program, &*self.0);
        add(&sums.messages, before.to_program.messages, sent.messages);
        add(&sums.bytes, before.to_program.bytes, sent.bytes);
        for (i, sum) in sums.fallbacks.iter().enumerate() {
            add(sum, before.to_program.fallbacks[i].into(), sent.fallbacks[i].into());
        }
        add(&sums.broken, before.broken.into(), (now.seen & seen::BROKEN != 0).into());
    }
}

impl Collector for Meter {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let of = |sum: &AtomicU64| ConstCounter::new(sum.load(Ordering::Relaxed));
        let sums = [
            (
                "sidecar_same_node_hops",
                "Connections enrolled with other proxies of this machine",
                &self.0.hops,
            ),
            ("sidecar_same_node_messages", "Messages sent to them without the TCP stack", &self.0.messages),
            ("sidecar_same_node_bytes", "Bytes sent to them without the TCP stack", &self.0.bytes),
            (
                "sidecar_same_node_broken_connections",
                "Connections with them that were broken off because bytes could not be handed on",
                &self.0.broken,
            ),
        ];
        for (name, help, sum) in sums {
            of(sum).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let help = "Messages sent to them by TCP, by reason";
        let mut family =
            encoder.encode_descriptor("sidecar_same_node_fallbacks", help, None, MetricType::Counter)?;
        for (fallback, reason) in Fallback::ALL {
            let labels = [("reason", reason)];
            of(&self.0.fallbacks[fallback as usize]).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
