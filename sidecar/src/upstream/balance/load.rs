//! What a balancer knows of one endpoint, kept as requests come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Instant;

use super::Candidate;
use super::ewma::Ewma;

/// One endpoint's load.
#[derive(Debug)]
pub struct Load {
    active: AtomicU32,
    ewma: Ewma,
    credit: AtomicI64,
    since: Instant,
}

/// A request that is under way; dropped, it is not.
#[derive(Debug)]
pub struct InFlight {
    load: Arc<Load>,
    since: Instant,
}

impl Load {
    /// That of an endpoint that is new now.
    pub fn new(now: Instant) -> Self {
        Self { active: AtomicU32::new(0), ewma: Ewma::new(now), credit: AtomicI64::new(0), since: now }
    }

    /// The endpoint as it is now.
    pub fn candidate(&self, weight: u32, healthy: bool, zone_local: bool, now: Instant) -> Candidate<'_> {
        Candidate {
            weight,
            active: self.active(),
            ewma: self.ewma.get(now),
            healthy,
            zone_local,
            age: now.saturating_duration_since(self.since),
            credit: &self.credit,
        }
    }

    /// Requests that are under way.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// A request goes to the endpoint.
    pub fn begin(self: &Arc<Self>, now: Instant) -> InFlight {
        self.active.fetch_add(1, Ordering::Relaxed);
        InFlight { load: Arc::clone(self), since: now }
    }
}

impl InFlight {
    /// The answer's head has come.
    pub fn answered(&self, now: Instant) {
        self.load.ewma.observe(now.saturating_duration_since(self.since), now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_what_is_under_way() {
        let start = Instant::now();
        let load = Arc::new(Load::new(start));
        let (first, second) = (load.begin(start), load.begin(start));
        let later = start + Duration::from_secs(1);
        second.answered(later);
        let candidate = load.candidate(3, true, false, later);
        assert_eq!((candidate.active, candidate.age), (2, Duration::from_secs(1)));
        assert_eq!(candidate.ewma, Duration::from_secs(1));
        drop((first, second));
        assert_eq!(load.active(), 0);
    }
}
