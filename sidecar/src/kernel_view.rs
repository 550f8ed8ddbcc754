//! What metrics show of the kernel half: read from its maps, or asked for, which takes no privilege.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use sidecar_common::stats::{Counters, Stat};
use socket2::{Domain, Socket, Type};

use crate::bpf::maps::Meters;
use crate::net::sys;
use crate::observe::metrics::{BpfCounter, BpfSample, BpfStats, MapUse};

/// By the maps, and the records in them. A handle: clones share them.
#[derive(Clone)]
pub struct KernelView(Arc<Meters>);

/// By asking a socket of this process. The kernel half may come later, and go.
pub struct Asked(Socket);

// === impl KernelView ===

impl KernelView {
    /// By these.
    pub fn new(meters: Meters) -> Self {
        Self(Arc::new(meters))
    }

    /// Events that userspace was too slow to take.
    pub fn events_lost(&self) -> u64 {
        self.0.counters().get(Stat::EventsLost)
    }

    /// The ids of the connections that have a record now.
    pub fn connection_ids(&self) -> HashSet<u64> {
        self.0.connection_ids()
    }
}

impl BpfStats for KernelView {
    fn stats(&self) -> BpfSample {
        let fills = self.0.fills().into_iter();
        BpfSample {
            armed: true,
            counters: named(&self.0.counters(), |_| true).collect(),
            maps: fills
                .map(|fill| MapUse { map: fill.map, entries: fill.entries, capacity: fill.capacity })
                .collect(),
        }
    }
}

// === impl Asked ===

impl Asked {
    /// Makes the socket.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Socket::new(Domain::IPV4, Type::DGRAM, None)?))
    }
}

impl BpfStats for Asked {
    fn stats(&self) -> BpfSample {
        let counters = sys::counters(&self.0);
        // Nobody reads events there, so that all are lost.
        let shown = |stat: Stat| stat != Stat::EventsLost;
        BpfSample {
            armed: counters.is_some(),
            counters: counters.iter().flat_map(|counters| named(counters, shown)).collect(),
            maps: Vec::new(),
        }
    }
}

fn named(counters: &Counters, shown: impl Fn(Stat) -> bool) -> impl Iterator<Item = BpfCounter> {
    let shown = Stat::ALL.iter().filter(move |(stat, ..)| shown(*stat));
    shown.map(|&(stat, name, help)| BpfCounter { name, help, value: counters.get(stat) })
}
