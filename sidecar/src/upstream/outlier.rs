//! Outlier detection: endpoints that answer badly are left out for a while.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::traffic::{OutlierDetection, SuccessRate};

/// How a request went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The endpoint answered, and not with a 5xx.
    Success,
    /// A 5xx, but none of the following.
    ServerError,
    /// 502, 503 or 504, or no answer at all: no connection, a reset, a time-out.
    GatewayError,
}

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// An endpoint is left out.
    Ejected {
        /// Its place.
        endpoint: usize,
        /// Why.
        cause: Cause,
        /// For how long.
        lasts: Duration,
    },
    /// An endpoint is back.
    Returned {
        /// Its place.
        endpoint: usize,
    },
}

/// Why an endpoint is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// 5xx answers in a row.
    Consecutive5xx,
    /// Gateway errors in a row.
    ConsecutiveGatewayErrors,
    /// A share of good answers far below the others'.
    SuccessRate,
}

/// Watches the endpoints of one backend, which it knows by their places.
#[derive(Debug)]
pub struct Detector {
    config: OutlierDetection,
    hosts: Vec<Arc<Host>>,
    /// Held while an endpoint is left out or comes back, so that together they keep to the bounds.
    gate: Mutex<()>,
    /// How often the bounds kept one in.
    spared: AtomicU64,
}

/// What is known of one endpoint. Two detectors share it while one takes the other's place.
#[derive(Debug, Default)]
struct Host {
    name: String,
    /// 5xx answers in a row.
    errors: AtomicU32,
    /// Gateway errors in a row.
    gateway_errors: AtomicU32,
    /// Answers since the last tick, and the good ones among them.
    answers: AtomicU32,
    good: AtomicU32,
    ejected: AtomicBool,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// How many times the base an ejection lasts; falls by one with each interval in which there is none.
    times: u32,
    /// When the ejection ends.
    until: Option<Instant>,
}

// === impl Outcome ===

impl Outcome {
    /// The outcome of an answer with this status.
    pub fn of_status(status: u16) -> Self {
        match status {
            502..=504 => Self::GatewayError,
            500..=599 => Self::ServerError,
            _ => Self::Success,
        }
    }
}

// === impl Detector ===

impl Detector {
    /// A detector that knows nothing yet of the endpoints with these names.
    pub fn new<'a>(config: OutlierDetection, names: impl IntoIterator<Item = &'a str>) -> Self {
        let host = |name: &str| Arc::new(Host { name: name.to_owned(), ..Host::default() });
        Self::with_hosts(config, names.into_iter().map(host).collect())
    }

    /// A detector for other endpoints, which knows what this one knows of those that stay.
    #[must_use]
    pub fn renew<'a>(&self, config: OutlierDetection, names: impl IntoIterator<Item = &'a str>) -> Self {
        let host = |name: &str| match self.hosts.iter().find(|host| host.name == name) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Host { name: name.to_owned(), ..Host::default() }),
        };
        Self::with_hosts(config, names.into_iter().map(host).collect())
    }

    fn with_hosts(config: OutlierDetection, hosts: Vec<Arc<Host>>) -> Self {
        Self { config, hosts, gate: Mutex::new(()), spared: AtomicU64::new(0) }
    }

    /// How often [`Self::tick`] is to be called.
    pub fn interval(&self) -> Duration {
        self.config.interval
    }

    /// True while the endpoint is left out.
    pub fn is_ejected(&self, endpoint: usize) -> bool {
        self.hosts.get(endpoint).is_some_and(|host| host.is_ejected())
    }

    /// How many endpoints are left out.
    pub fn ejected_count(&self) -> usize {
        self.hosts.iter().filter(|host| host.is_ejected()).count()
    }

    /// How often an endpoint stayed in only because too many others were out.
    pub fn spared(&self) -> u64 {
        self.spared.load(Ordering::Relaxed)
    }

    /// Takes in how a request went.
    pub fn record(&self, endpoint: usize, outcome: Outcome, now: Instant) -> Option<Change> {
        let host = self.hosts.get(endpoint)?;
        let config = &self.config;
        host.answers.fetch_add(1, Ordering::Relaxed);
        if outcome == Outcome::Success {
            host.good.fetch_add(1, Ordering::Relaxed);
            host.forget_rows();
            return None;
        }
        let gateway = if outcome == Outcome::GatewayError {
            row(&host.gateway_errors, config.consecutive_gateway_errors)
        } else {
            host.gateway_errors.store(0, Ordering::Relaxed);
            false
        };
        let error = row(&host.errors, config.consecutive_5xx_errors);
        let cause = match (gateway, error) {
            (true, _) => Cause::ConsecutiveGatewayErrors,
            (false, true) => Cause::Consecutive5xx,
            (false, false) => return None,
        };
        let _gate = self.lock();
        self.eject(endpoint, cause, now)
    }

    /// Lets endpoints back whose time is over, and compares rates. To be called each [`Self::interval`].
    pub fn tick(&self, now: Instant) -> Vec<Change> {
        let _gate = self.lock();
        let mut changes = Vec::new();
        for (endpoint, host) in self.hosts.iter().enumerate() {
            let mut past = host.past();
            match past.until {
                Some(until) if until <= now => {
                    past.until = None;
                    host.ejected.store(false, Ordering::Relaxed);
                    host.forget_rows();
                    changes.push(Change::Returned { endpoint });
                }
                Some(_) => {}
                None => past.times = past.times.saturating_sub(1),
            }
        }
        // The counts begin anew in any case.
        let counts = self.hosts.iter().map(|host| host.take_counts()).enumerate().collect::<Vec<_>>();
        if let Some(rate) = &self.config.success_rate {
            let outliers = self.outliers(rate, &counts);
            changes.extend(outliers.iter().filter_map(|i| self.eject(*i, Cause::SuccessRate, now)));
        }
        changes
    }

    /// The endpoints whose share of good answers is far below the mean of all that had enough.
    fn outliers(&self, rate: &SuccessRate, counts: &[(usize, (u32, u32))]) -> Vec<usize> {
        let enough = |(i, (good, answers)): &(usize, (u32, u32))| {
            let counts = *answers >= rate.request_volume.max(1) && !self.is_ejected(*i);
            counts.then(|| (*i, f64::from(*good) / f64::from(*answers)))
        };
        let rates: Vec<(usize, f64)> = counts.iter().filter_map(enough).collect();
        let Ok(count) = u32::try_from(rates.len()) else { return Vec::new() };
        if count < rate.minimum_hosts.max(1) {
            return Vec::new();
        }
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / f64::from(count);
        let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / f64::from(count);
        let least = mean - variance.sqrt() * f64::from(rate.stdev_factor) / 1_000.0;
        rates.iter().filter(|(_, rate)| *rate < least).map(|(i, _)| *i).collect()
    }

    /// Leaves an endpoint out, if the bounds allow. The gate is held.
    fn eject(&self, endpoint: usize, cause: Cause, now: Instant) -> Option<Change> {
        let host = self.hosts.get(endpoint)?;
        if host.is_ejected() {
            return None;
        }
        if !self.may_eject() {
            self.spared.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (base, max) = (self.config.base_ejection_time, self.config.max_ejection_time);
        let mut past = host.past();
        // Once it lasts as long as it may, there is nothing to remember more of.
        if base.saturating_mul(past.times) < max {
            past.times += 1;
        }
        let lasts = base.saturating_mul(past.times).min(max);
        past.until = Some(now + lasts);
        host.ejected.store(true, Ordering::Relaxed);
        Some(Change::Ejected { endpoint, cause, lasts })
    }

    /// True while one endpoint more may be left out: at most the share that is allowed, though always one, and the
    /// share that must stay does.
    fn may_eject(&self) -> bool {
        let (all, out) = (self.hosts.len() as u64, self.ejected_count() as u64 + 1);
        let most = u64::from(self.config.max_ejection_percent.millionths());
        let least = u64::from(self.config.min_health_percent.millionths());
        let within = out * 1_000_000 <= most * all || (out == 1 && most > 0);
        within && all.saturating_sub(out) * 1_000_000 >= least * all
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Host ===

impl Host {
    fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    fn forget_rows(&self) {
        self.errors.store(0, Ordering::Relaxed);
        self.gateway_errors.store(0, Ordering::Relaxed);
    }

    /// The good answers and all, since the last time.
    fn take_counts(&self) -> (u32, u32) {
        let answers = self.answers.swap(0, Ordering::Relaxed);
        // A good answer that comes between the two would make more than all.
        (self.good.swap(0, Ordering::Relaxed).min(answers), answers)
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One more in a row. True when that makes the threshold, and then the row begins anew; 0 is no threshold.
fn row(count: &AtomicU32, threshold: u32) -> bool {
    let full = count.fetch_add(1, Ordering::Relaxed).wrapping_add(1) >= threshold && threshold > 0;
    if full {
        count.store(0, Ordering::Relaxed);
    }
    full
}
