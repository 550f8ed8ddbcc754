//! The proxy's own requests, as the access log has them and as they are counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde::Serialize;
use serde_json::Value;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// A probe's request that is over.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeLine {
    /// The probe's name.
    pub probe: String,
    /// The name of the instance that asked.
    pub instance: Arc<str>,
    /// Whom it asked.
    pub endpoint: String,
    /// How.
    pub method: String,
    /// For what.
    pub path: String,
    /// The status of the answer; 0: none came.
    pub status: u16,
    /// It is one of those that are expected.
    pub expected: bool,
    /// Why none came.
    pub reason: Option<String>,
    /// Until all of the answer was there, in milliseconds.
    pub duration_ms: f64,
    /// The size of its body, as far as it was read.
    pub response_bytes: u64,
    /// The body's beginning, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body: Option<Value>,
}

/// Counts by probe. A handle: clones share them.
#[derive(Clone, Default, Debug)]
pub struct ProbeCounts(Arc<Mutex<BTreeMap<String, Series>>>);

#[derive(Default, Debug)]
struct Series {
    codes: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len() + 1],
    seconds: f64,
    succeeds: bool,
}

// === impl ===

impl ProbeLine {
    /// For people.
    pub fn as_text(&self) -> String {
        format!(
            "probe {} \"{} {}\" {} endpoint={} received={} duration={:.1}ms expected={} reason={}",
            self.probe,
            self.method,
            self.path,
            self.status,
            self.endpoint,
            self.response_bytes,
            self.duration_ms,
            self.expected,
            self.reason.as_deref().unwrap_or("-"),
        )
    }
}

impl ProbeCounts {
    /// Counts an answer, or none.
    pub fn count(&self, probe: &str, code: u16, duration: Duration, expected: bool) {
        let seconds = duration.as_secs_f64();
        let mut all = self.lock();
        let series = all.entry(probe.to_owned()).or_default();
        *series.codes.entry(code).or_default() += 1;
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        series.buckets[bucket] += 1;
        series.seconds += seconds;
        series.succeeds = expected;
    }

    /// Forgets all other probes.
    pub fn keep(&self, names: &[&str]) {
        self.lock().retain(|name, _| names.contains(&name.as_str()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Series>> {
        // Numbers stay numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for ProbeCounts {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let all = self.lock();
        let (name, help) = ("sidecar_probe_requests", "Requests of probes; code 0: no answer");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (probe, series) in &*all {
            for (code, count) in &series.codes {
                let labels = [("probe", probe.clone()), ("code", code.to_string())];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        let (name, help) = ("sidecar_probe_success", "1 while a probe's last answer was an expected one");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (probe, series) in &*all {
            let labels = [("probe", probe.as_str())];
            ConstGauge::new(u64::from(series.succeeds)).encode(family.encode_family(&labels)?)?;
        }
        let (name, help) = ("sidecar_probe_duration_seconds", "Until all of a probe's answer was there");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (probe, series) in &*all {
            let bounds = BUCKETS.into_iter().chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(series.buckets).collect();
            let labels = [("probe", probe.as_str())];
            family.encode_family(&labels)?.encode_histogram::<[(&str, &str); 0]>(
                series.seconds,
                series.buckets.iter().sum(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}
