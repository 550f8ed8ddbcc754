//! What is counted, and the server that shows it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::admin::serve::{Handler, Reply, only, reads, reply, text};
use crate::observe::metrics::CONTENT_TYPE;

/// Counts since the start. A handle: clones share them.
#[derive(Clone, Default, Debug)]
pub(super) struct Counts(Arc<Counters>);

#[derive(Default, Debug)]
pub(super) struct Counters {
    /// Lines and pieces that the output took.
    pub lines: AtomicU64,
    /// Pieces of lines that were too long.
    pub split: AtomicU64,
    /// Lines with bytes that are no UTF-8.
    pub invalid: AtomicU64,
    /// Files that another took the place of.
    pub rotated: AtomicU64,
    /// Files that were cut.
    pub truncated: AtomicU64,
    /// Files that were not followed, since there were too many: each time they were looked for.
    pub left_out: AtomicU64,
    /// Files that could not be read.
    pub unreadable: AtomicU64,
    /// Requests that were sent again.
    pub retries: AtomicU64,
    /// Lines that the receiver refused for good.
    pub rejected: AtomicU64,
    /// Files that are followed now.
    pub files: AtomicU64,
}

/// Answers scrapes.
#[derive(Clone)]
pub(super) struct Scrape(Arc<Registry>);

// === impl ===

impl std::ops::Deref for Counts {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.0
    }
}

/// Counts one more, or several.
pub(super) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let counters = [
            ("lines", "Lines, and pieces of long ones, that the output took", &self.lines),
            ("split", "Pieces of lines that were too long", &self.split),
            ("invalid", "Lines with bytes that are no UTF-8", &self.invalid),
            ("rotated", "Files that another took the place of", &self.rotated),
            ("truncated", "Files that were cut", &self.truncated),
            ("left_out", "Looks at files that are too many to be followed", &self.left_out),
            ("unreadable", "Looks at files that cannot be read", &self.unreadable),
            ("retries", "Requests to the receiver that were sent again", &self.retries),
            ("rejected", "Lines that the receiver refused for good", &self.rejected),
        ];
        for (name, help, counter) in counters {
            let name = format!("sidecar_logs_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            ConstCounter::new(counter.load(Ordering::Relaxed)).encode(metric)?;
        }
        let help = "Files that are followed";
        let metric = encoder.encode_descriptor("sidecar_logs_files", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.files.load(Ordering::Relaxed)).encode(metric)
    }
}

impl Scrape {
    pub(super) fn new(counts: &Counts) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(counts.clone()));
        Self(Arc::new(registry))
    }
}

impl Handler for Scrape {
    async fn handle(&self, request: &Request<Incoming>) -> Reply {
        if !reads(request.method()) {
            return only("GET");
        }
        if request.uri().path() != "/metrics" {
            return text(StatusCode::NOT_FOUND, "here is /metrics");
        }
        let mut metrics = String::new();
        match encode(&mut metrics, &self.0) {
            Ok(()) => reply(StatusCode::OK, CONTENT_TYPE, metrics),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be collected"),
        }
    }
}
