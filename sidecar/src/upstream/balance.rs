//! Which endpoint a request goes to.

pub mod ewma;
pub mod hash;
pub mod key;
pub mod load;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fastrand::Rng;

use self::hash::Ring;
use crate::config::traffic::{Algorithm, LoadBalancer};

/// An endpoint as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its share, relative to the others'; 0: it gets nothing.
    pub weight: u32,
    /// Requests to it that are under way.
    pub active: u32,
    /// How long its answers take (`ewma::Ewma`).
    pub ewma: Duration,
    /// Neither its health check nor outlier detection rules it out.
    pub healthy: bool,
    /// It is in the preferred zone; false for all where there is none.
    pub zone_local: bool,
    /// How long it has been there.
    pub age: Duration,
    /// How much it is owed, in turns; the balancer's own.
    pub credit: &'a AtomicI64,
}

/// Chooses among the endpoints of one backend. Any thread may ask at any time.
#[derive(Debug)]
pub struct Balancer {
    way: Way,
    slow_start: Option<Duration>,
}

#[derive(Debug)]
enum Way {
    RoundRobin,
    LeastRequest,
    PeakEwma,
    Random,
    ConsistentHash(Ring),
}

/// With a smaller share of healthy endpoints than this, health is ignored: the few that are left would go down under
/// the whole load, and it may well be the checks that are wrong (Envoy's panic threshold).
const PANIC_PERCENT: usize = 50;
/// The share of a new endpoint begins with this part of its weight, in thousandths (Envoy).
const SLOW_START_LEAST: u32 = 100;
const THOUSAND: u32 = 1_000;
/// Weights are validated up to this, so that a thousand times as much is a `u32`.
const MAX_WEIGHT: u32 = 1_000_000;

// === impl Balancer ===

impl Balancer {
    /// A balancer for endpoints with these names and weights, which only a hash needs. Its candidates come in the same
    /// order. The names decide which keys an endpoint gets, and should outlive it: its address, say.
    pub fn new(config: &LoadBalancer, endpoints: &[(&str, u32)]) -> Self {
        let way = match &config.algorithm {
            Algorithm::RoundRobin => Way::RoundRobin,
            Algorithm::LeastRequest => Way::LeastRequest,
            Algorithm::PeakEwma => Way::PeakEwma,
            Algorithm::Random => Way::Random,
            Algorithm::ConsistentHash(_) => Way::ConsistentHash(Ring::new(endpoints)),
        };
        Self { way, slow_start: config.slow_start }
    }

    /// The place in `candidates` of the one to use. `key` is the hash of the request's key: without one, a consistent
    /// hash takes any. `None`: no candidate has a weight.
    pub fn pick(&self, candidates: &[Candidate<'_>], key: Option<u64>, rng: &mut Rng) -> Option<usize> {
        let field = Field::new(candidates, self.slow_start);
        match &self.way {
            Way::RoundRobin => field.in_turn(),
            Way::Random => field.any(None, rng),
            Way::LeastRequest => field.less_busy(rng),
            Way::PeakEwma => field.sooner(rng),
            Way::ConsistentHash(points) => {
                // A key stays where it is, whatever the zone.
                let field = Field { local_only: false, ..field };
                match key {
                    Some(key) => points.walk(key).find(|&i| field.share(i) > 0),
                    None => field.any(None, rng),
                }
            }
        }
    }
}

/// The candidates, and which of them count.
#[derive(Clone, Copy)]
struct Field<'a> {
    candidates: &'a [Candidate<'a>],
    slow_start: Option<Duration>,
    panic: bool,
    local_only: bool,
}

impl<'a> Field<'a> {
    fn new(candidates: &'a [Candidate<'a>], slow_start: Option<Duration>) -> Self {
        let usable = || candidates.iter().filter(|candidate| candidate.weight > 0);
        let healthy = || usable().filter(|candidate| candidate.healthy);
        let panic = healthy().count() * 100 < usable().count() * PANIC_PERCENT;
        let local_only = !panic && healthy().any(|candidate| candidate.zone_local);
        Self { candidates, slow_start, panic, local_only }
    }

    /// A candidate's share: its weight in thousandths, or 0 if it does not count.
    fn share(&self, i: usize) -> u32 {
        let Some(candidate) = self.candidates.get(i) else { return 0 };
        let counts = (candidate.healthy || self.panic) && (candidate.zone_local || !self.local_only);
        if !counts {
            return 0;
        }
        candidate.weight.min(MAX_WEIGHT) * self.grown(candidate.age)
    }

    /// How much of its weight an endpoint of this age has, in thousandths.
    fn grown(&self, age: Duration) -> u32 {
        let Some(window) = self.slow_start.filter(|window| age < *window) else { return THOUSAND };
        let part = age.as_millis() * u128::from(THOUSAND) / window.as_millis().max(1);
        u32::try_from(part).unwrap_or(THOUSAND).clamp(SLOW_START_LEAST, THOUSAND)
    }

    fn shares(&self) -> impl Iterator<Item = (usize, u32)> {
        (0..self.candidates.len()).map(|i| (i, self.share(i))).filter(|(_, share)| *share > 0)
    }

    /// Smooth weighted round robin, as nginx does it: each turn, all are owed their share more, and whoever is owed
    /// most pays the sum. Concurrent turns may see each other half done; what is owed sums up all the same.
    fn in_turn(&self) -> Option<usize> {
        let (mut total, mut best) = (0, None);
        for (i, share) in self.shares() {
            let share = i64::from(share);
            total += share;
            let owed = self.candidates.get(i)?.credit.fetch_add(share, Ordering::Relaxed) + share;
            if best.is_none_or(|(_, most)| owed > most) {
                best = Some((i, owed));
            }
        }
        let (i, _) = best?;
        self.candidates.get(i)?.credit.fetch_sub(total, Ordering::Relaxed);
        Some(i)
    }

    /// Any but this one, by share.
    fn any(&self, but: Option<usize>, rng: &mut Rng) -> Option<usize> {
        let others = || self.shares().filter(|(i, _)| Some(*i) != but);
        let total: u64 = others().map(|(_, share)| u64::from(share)).sum();
        if total == 0 {
            return None;
        }
        let mut left = rng.u64(0..total);
        others().find_map(|(i, share)| match left.checked_sub(u64::from(share)) {
            Some(rest) => {
                left = rest;
                None
            }
            None => Some(i),
        })
    }

    /// The second of two that were drawn by share if it is better, else the first. So shares hold while none is busy.
    fn of_two(&self, rng: &mut Rng, better: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let first = self.any(None, rng)?;
        let second = self.any(Some(first), rng);
        Some(second.filter(|second| better(*second, first)).unwrap_or(first))
    }

    /// The one of two with fewer requests for its share.
    fn less_busy(&self, rng: &mut Rng) -> Option<usize> {
        let active = |i: usize| self.candidates.get(i).map_or(0, |candidate| u64::from(candidate.active));
        let share = |i| u64::from(self.share(i));
        self.of_two(rng, |a, b| active(a) * share(b) < active(b) * share(a))
    }

    /// The one of two where an answer takes less time, counting the requests for its share that are ahead.
    fn sooner(&self, rng: &mut Rng) -> Option<usize> {
        let (mut sum, mut count) = (0.0, 0.0);
        for (_, share) in self.shares() {
            sum += f64::from(share);
            count += 1.0;
        }
        let cost = |i: usize| {
            let Some(candidate) = self.candidates.get(i) else { return f64::MAX };
            let ahead = f64::from(candidate.active) * sum / count / f64::from(self.share(i));
            candidate.ewma.as_secs_f64() * (1.0 + ahead)
        };
        self.of_two(rng, |a, b| cost(a) < cost(b))
    }
}
