//! What the data plane counts besides requests: what was sent again, what was limited, who is left out.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Common;

/// Counts of a data plane, while it is there.
pub struct PlaneMetrics(Weak<Common>);

impl PlaneMetrics {
    /// Those of this one.
    pub fn new(common: &Arc<Common>) -> Self {
        Self(Arc::downgrade(common))
    }
}

impl Collector for PlaneMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(common) = self.0.upgrade() else { return Ok(()) };
        let counts = [
            ("sidecar_retries", "Requests that were sent again", &common.retries),
            (
                "sidecar_rested_connections",
                "Connections that rested between requests, each time",
                &common.rested,
            ),
            ("sidecar_rate_limited", "Requests that a rate limit refused", &common.limited),
            ("sidecar_mirrors_cut", "Copies for mirrors that did not keep up", &common.mirrors_cut),
        ];
        for (name, help, count) in counts {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric)?;
        }
        let help = "Endpoints that are left out for what they answered";
        let mut family =
            encoder.encode_descriptor("sidecar_ejected_endpoints", help, None, MetricType::Gauge)?;
        for cluster in common.plan().clusters() {
            let ejected = u64::try_from(cluster.ejected()).unwrap_or(u64::MAX);
            ConstGauge::new(ejected).encode(family.encode_family(&[("backend", &*cluster.name)])?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for PlaneMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlaneMetrics")
    }
}
