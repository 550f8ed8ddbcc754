//! When a measurement begins and ends, and what it cost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use crate::cpu::{Cpu, Reading, Watched};
use crate::metric::{Metric, Sample};

/// A warm-up lasts no longer than so many times its length, however little was done.
const PATIENCE: u32 = 4;

/// The longest latency that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Measures one run of a load.
pub(super) struct Meter {
    watched: Watched,
    warmup: Duration,
    length: Duration,
    begun: Instant,
    start: Option<(Instant, Reading)>,
    cost: Option<(Duration, Cpu)>,
    latencies: Histogram<u64>,
}

impl Meter {
    #[allow(clippy::expect_used, reason = "the bounds are constants that fit")]
    pub(super) fn new(watched: Watched, warmup: Duration, length: Duration) -> Self {
        let latencies = Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds of a histogram");
        Self { watched, warmup, length, begun: Instant::now(), start: None, cost: None, latencies }
    }

    /// Warm-up and measurement.
    pub(super) fn lengths(&self) -> [Duration; 2] {
        [self.warmup, self.length]
    }

    /// The warm-up begins now.
    pub(super) fn begin(&mut self) {
        self.begun = Instant::now();
    }

    /// Looks at the time: true when the measurement is over. It begins once the warm-up's time has passed and the
    /// caller is `warm`.
    pub(super) fn is_over(&mut self, now: Instant, warm: bool) -> Result<bool> {
        let Some((since, before)) = self.start else {
            let warmed = now - self.begun;
            if warmed >= self.warmup && (warm || warmed >= PATIENCE * self.warmup) {
                self.start = Some((now, Reading::now(&self.watched)?));
            }
            return Ok(false);
        };
        if now - since < self.length {
            return Ok(false);
        }
        if self.cost.is_none() {
            self.cost = Some((now - since, Reading::now(&self.watched)?.since(&before)));
        }
        Ok(true)
    }

    /// True between warm-up and end.
    pub(super) fn is_measuring(&self) -> bool {
        self.start.is_some() && self.cost.is_none()
    }

    /// Something took so long.
    pub(super) fn record(&mut self, latency: Duration) {
        if self.is_measuring() {
            self.add(latency);
        }
    }

    /// Something that was due at this time was done after so long, be it after the end of the measurement: it counts when it was
    /// due between warm-up and end.
    pub(super) fn record_due(&mut self, due: Instant, latency: Duration) {
        if self.start.as_ref().is_some_and(|(start, _)| due >= *start && due - *start < self.length) {
            self.add(latency);
        }
    }

    fn add(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST));
    }

    /// Latencies, rate and cost of what was recorded.
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds and messages of a second")]
    pub(super) fn messages(self, failures: usize) -> Result<Sample> {
        let (elapsed, cpu) = self.cost.context("the measurement did not end")?;
        let count = self.latencies.len() as f64;
        ensure!(count > 0.0, "not one message came back during the measurement");
        let proxy = cpu.proxy.map(|seconds| (Metric::ProxyCpuPerMillion, seconds / count * 1e6));
        let quantile = |q| self.latencies.value_at_quantile(q) as f64 / 1e3;
        Ok(Sample::from([
            (Metric::P50, quantile(0.5)),
            (Metric::P90, quantile(0.9)),
            (Metric::P99, quantile(0.99)),
            (Metric::P999, quantile(0.999)),
            (Metric::Rate, count / elapsed.as_secs_f64()),
            (Metric::MachineCpuPerMillion, cpu.machine / count * 1e6),
            (Metric::ProcessCpuPerMillion, cpu.processes / count * 1e6),
            (Metric::Others, others(cpu, elapsed)),
            (Metric::Failures, failures as f64),
        ])
        .into_iter()
        .chain(proxy)
        .collect())
    }

    /// Throughput, and its cost, when the receiver got so many bytes in such a time.
    #[allow(clippy::cast_precision_loss, reason = "bytes of a second")]
    pub(super) fn bulk(self, bytes: u64, time: Duration) -> Result<Sample> {
        let (elapsed, cpu) = self.cost.context("the measurement did not end")?;
        ensure!(bytes > 0 && !time.is_zero(), "nothing came during the measurement");
        let throughput = bytes as f64 / time.as_secs_f64();
        // The receiver's measurement begins a moment after the sender's.
        let gigabytes = throughput * elapsed.as_secs_f64() / 1e9;
        Ok(Sample::from([
            (Metric::Throughput, throughput),
            (Metric::MachineCpuPerGigabyte, cpu.machine / gigabytes),
            (Metric::ProcessCpuPerGigabyte, cpu.processes / gigabytes),
            (Metric::Others, others(cpu, elapsed)),
        ]))
    }
}

/// The kernel's threads are others too, but take little: loopback is worked off by who sends.
fn others(cpu: Cpu, elapsed: Duration) -> f64 {
    ((cpu.machine - cpu.processes) / elapsed.as_secs_f64()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter::new(Watched::default(), Duration::from_millis(10), Duration::from_millis(100))
    }

    #[test]
    fn percentiles_and_rate_are_of_the_measurement_alone() {
        let mut meter = meter();
        let at = |ms| meter.begun + Duration::from_millis(ms);
        let [warming, begin, inside, end] = [1, 10, 50, 110].map(at);
        assert!(!meter.is_over(warming, true).unwrap());
        meter.record(Duration::from_secs(1));
        assert!(!meter.is_over(begin, true).unwrap());
        for micros in 1..=1000 {
            meter.record(Duration::from_micros(micros));
        }
        assert!(!meter.is_over(inside, true).unwrap());
        assert!(meter.is_over(end, true).unwrap());
        meter.record(Duration::from_secs(1));
        let sample = meter.messages(2).unwrap();
        let near = |metric, expected: f64| (sample[&metric] / expected - 1.0).abs() < 0.002;
        assert!(
            near(Metric::P50, 500.0) && near(Metric::P90, 900.0) && near(Metric::P99, 990.0),
            "{sample:?}"
        );
        assert!(near(Metric::P999, 999.0) && near(Metric::Rate, 10_000.0), "{sample:?}");
        assert!(near(Metric::Failures, 2.0), "{sample:?}");
    }

    #[test]
    fn what_is_late_counts_if_it_was_due_in_time() {
        let mut meter = meter();
        let at = |ms| meter.begun + Duration::from_millis(ms);
        let [early, begin, end] = [9, 10, 110].map(at);
        assert!(!meter.is_over(begin, true).unwrap() && meter.is_over(end, true).unwrap());
        for due in [early, begin, end] {
            meter.record_due(due, Duration::from_millis(500));
        }
        assert_eq!(meter.latencies.len(), 1);
    }

    #[test]
    fn a_cold_client_warms_up_longer_but_not_forever() {
        let mut meter = meter();
        let at = |ms| meter.begun + Duration::from_millis(ms);
        let [cold, latest] = [39, 40].map(at);
        assert!(!meter.is_over(cold, false).unwrap() && !meter.is_measuring());
        assert!(!meter.is_over(latest, false).unwrap() && meter.is_measuring());
    }

    #[test]
    fn a_measurement_without_a_message_is_none() {
        let mut meter = meter();
        let [begin, end] = [10, 200].map(|ms| meter.begun + Duration::from_millis(ms));
        assert!(!meter.is_over(begin, true).unwrap() && meter.is_over(end, true).unwrap());
        assert!(meter.messages(0).unwrap_err().to_string().contains("not one message"));
    }
}
