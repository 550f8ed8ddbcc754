//! How long an endpoint's answers take: a moving average that jumps to peaks and decays with time (Finagle's peak EWMA).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The average of one endpoint.
#[derive(Debug)]
pub struct Ewma {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    secs: f64,
    at: Instant,
}

/// What a sample weighs after this time is 1/e of what it weighed.
const DECAY: Duration = Duration::from_secs(10);
/// What is expected of an endpoint that has not answered yet (Linkerd).
const INITIAL: Duration = Duration::from_millis(30);

impl Ewma {
    /// The average of an endpoint that is new now.
    pub fn new(now: Instant) -> Self {
        Self { state: Mutex::new(State { secs: INITIAL.as_secs_f64(), at: now }) }
    }

    /// Takes in an answer. One that took longer than the average becomes the average.
    pub fn observe(&self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let mut state = self.lock();
        let kept = state.kept(now);
        let average = state.secs * kept + took * (1.0 - kept);
        *state = State { secs: average.max(took), at: now.max(state.at) };
    }

    /// The average, less what has decayed since the last answer: so that an endpoint that was slow is tried again.
    pub fn get(&self, now: Instant) -> Duration {
        let state = self.lock();
        Duration::try_from_secs_f64(state.secs * state.kept(now)).unwrap_or(Duration::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The share of the average that is left.
    fn kept(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at);
        (-elapsed.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(found: Duration, millis: f64) -> bool {
        (found.as_secs_f64() * 1_000.0 / millis - 1.0).abs() < 0.01
    }

    #[test]
    fn rises_at_once_and_falls_slowly() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let ewma = Ewma::new(start);
        assert!(about(ewma.get(start), 30.0));
        ewma.observe(Duration::from_secs(1), start);
        assert!(about(ewma.get(start), 1_000.0));
        ewma.observe(Duration::from_millis(10), start);
        assert!(about(ewma.get(start), 1_000.0), "no time has passed");
        ewma.observe(Duration::from_millis(10), after(10));
        assert!(about(ewma.get(after(10)), 374.2), "{:?}", ewma.get(after(10)));
        assert!(about(ewma.get(after(20)), 137.7), "{:?}", ewma.get(after(20)));
    }

    #[test]
    fn time_does_not_go_back() {
        let start = Instant::now();
        let later = start + Duration::from_secs(10);
        let ewma = Ewma::new(later);
        ewma.observe(Duration::from_millis(40), start);
        assert!(about(ewma.get(later), 40.0));
        assert!(about(ewma.get(start), 40.0));
    }
}
