//! Counts of requests, by labels that no client can make up.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::net::addrs::Direction;

/// How many combinations of labels are kept. Those beyond are counted under the route and backend `other`.
const MAX_SERIES: usize = 4096;
/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 17] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The counts of an instance.
#[derive(Default)]
pub struct Requests(RwLock<HashMap<Labels, Arc<Series>>>);

/// What a request is counted under.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Labels {
    /// Seen from the program.
    pub direction: Direction,
    /// The route and rule; `passthrough`, `none`.
    pub route: Arc<str>,
    /// The backend; `passthrough`, `none`.
    pub backend: Arc<str>,
    /// A standard method, or `other`.
    pub method: &'static str,
    /// The status of the answer; 0: none came.
    pub code: u16,
    /// Envoy's response flags.
    pub flags: &'static str,
}

/// What is counted of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// From its header to the end of its answer.
    pub duration: Duration,
    /// Its body.
    pub request_bytes: u64,
    /// The answer's.
    pub response_bytes: u64,
}

/// A counter of a series.
type Value = fn(&Series) -> &AtomicU64;

#[derive(Default)]
struct Series {
    requests: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len() + 1],
}

/// [`Requests`] as metrics.
#[derive(Clone)]
pub struct RequestMetrics(pub Arc<Requests>);

// === impl ===

impl Requests {
    /// Counts one.
    pub fn count(&self, labels: Labels, sample: Sample) {
        let add = |counter: &AtomicU64, value: u64| counter.fetch_add(value, Ordering::Relaxed);
        let series = self.series(labels);
        let seconds = sample.duration.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        add(&series.requests, 1);
        add(&series.request_bytes, sample.request_bytes);
        add(&series.response_bytes, sample.response_bytes);
        add(&series.micros, u64::try_from(sample.duration.as_micros()).unwrap_or(u64::MAX));
        if let Some(bucket) = series.buckets.get(bucket) {
            add(bucket, 1);
        }
    }

    fn series(&self, labels: Labels) -> Arc<Series> {
        if let Some(series) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&labels) {
            return Arc::clone(series);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let labels = if all.len() < MAX_SERIES {
            labels
        } else {
            Labels { route: "other".into(), backend: "other".into(), code: labels.code / 100 * 100, ..labels }
        };
        Arc::clone(all.entry(labels).or_default())
    }
}

impl Labels {
    fn pairs(&self) -> [(&'static str, String); 6] {
        [
            ("direction", self.direction.as_str().to_owned()),
            ("route", self.route.to_string()),
            ("backend", self.backend.to_string()),
            ("method", self.method.to_owned()),
            ("code", self.code.to_string()),
            ("flags", self.flags.to_owned()),
        ]
    }
}

impl Collector for RequestMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let all = self.0.0.read().unwrap_or_else(PoisonError::into_inner);
        let counters: [(&str, &str, Value); 3] = [
            ("sidecar_requests", "Requests that were answered or given up", |series| &series.requests),
            ("sidecar_request_bytes", "Bodies of requests", |series| &series.request_bytes),
            ("sidecar_response_bytes", "Bodies of answers", |series| &series.response_bytes),
        ];
        for (name, help, value) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in &*all {
                let value = value(series).load(Ordering::Relaxed);
                ConstCounter::new(value).encode(family.encode_family(&labels.pairs())?)?;
            }
        }
        let help = "From a request's header to the end of its answer";
        let mut family = encoder.encode_descriptor(
            "sidecar_request_duration_seconds",
            help,
            None,
            MetricType::Histogram,
        )?;
        for (labels, series) in &*all {
            let loaded = series.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
            let bounds = BUCKETS.into_iter().chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(loaded).collect();
            #[expect(clippy::cast_precision_loss, reason = "microseconds of centuries")]
            let sum = series.micros.load(Ordering::Relaxed) as f64 / 1e6;
            family.encode_family(&labels.pairs())?.encode_histogram::<[(&str, &str); 0]>(
                sum,
                loaded.iter().sum(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestMetrics")
    }
}
