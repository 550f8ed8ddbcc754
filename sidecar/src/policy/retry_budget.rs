//! How many requests may be retries: a share of the requests of the last seconds, and in any case a few a second. A
//! backend that fails gets little more than its usual load from retries, however many each request may have.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::config::traffic;

/// The budget of one backend.
#[derive(Debug)]
pub struct RetryBudget {
    config: traffic::RetryBudget,
    window: Mutex<Window>,
    active: AtomicU32,
    exhausted: AtomicU64,
}

/// A retry that the budget pays for; until dropped, it is under way.
#[derive(Debug)]
#[must_use]
pub struct RetryPermit(Arc<RetryBudget>);

/// What the share is of, in seconds (Gateway API: `budget.interval`).
const WINDOW: usize = 10;

/// The last seconds, each in the slot of its number modulo [`WINDOW`].
#[derive(Debug)]
struct Window {
    start: Instant,
    /// The second that is counted now.
    second: u64,
    slots: [Slot; WINDOW],
}

#[derive(Clone, Copy, Default, Debug)]
struct Slot {
    requests: u64,
    retries: u64,
}

// === impl RetryBudget ===

impl RetryBudget {
    /// A budget whose first second begins now.
    pub fn new(config: traffic::RetryBudget, now: Instant) -> Self {
        let window = Window { start: now, second: 0, slots: [Slot::default(); WINDOW] };
        Self { config, window: Mutex::new(window), active: AtomicU32::new(0), exhausted: AtomicU64::new(0) }
    }

    /// A request comes in. Its retries do not count as such.
    pub fn request(&self, now: Instant) {
        self.with(now, |window| {
            if let Some(slot) = window.current() {
                slot.requests += 1;
            }
        });
    }

    /// One retry, unless there were too many, which is counted.
    pub fn retry(self: &Arc<Self>, now: Instant) -> Option<RetryPermit> {
        let paid = self.with(now, |window| {
            let requests: u64 = window.slots.iter().map(|slot| slot.requests).sum();
            let retries: u64 = window.slots.iter().map(|slot| slot.retries).sum();
            let share = u64::from(self.config.percent.millionths());
            let within = (retries + 1) * 1_000_000 <= requests * share;
            let slot = window.current()?;
            let few = slot.retries < u64::from(self.config.min_retries_per_second);
            (within || few).then(|| slot.retries += 1)
        });
        if paid.is_none() {
            self.exhausted.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.active.fetch_add(1, Ordering::Relaxed);
        Some(RetryPermit(Arc::clone(self)))
    }

    /// How many retries are under way.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// How many retries were refused.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    fn with<T>(&self, now: Instant, act: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.advance(now);
        act(&mut window)
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Window ===

impl Window {
    /// Empties the slots of the seconds that have begun since.
    fn advance(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        let begun = second.saturating_sub(self.second).min(WINDOW as u64);
        self.second = self.second.max(second);
        for back in 0..begun {
            if let Some(slot) = self.slot(self.second - back) {
                *slot = Slot::default();
            }
        }
    }

    fn current(&mut self) -> Option<&mut Slot> {
        self.slot(self.second)
    }

    fn slot(&mut self, second: u64) -> Option<&mut Slot> {
        let i = usize::try_from(second % WINDOW as u64).ok()?;
        self.slots.get_mut(i)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Percent;

    fn budget(percent: u32, min_retries_per_second: u32, now: Instant) -> Arc<RetryBudget> {
        let config = traffic::RetryBudget { percent: Percent::whole(percent), min_retries_per_second };
        Arc::new(RetryBudget::new(config, now))
    }

    /// How many of many retries are paid for.
    fn paid(budget: &Arc<RetryBudget>, now: Instant) -> usize {
        (0..1_000).filter_map(|_| budget.retry(now)).count()
    }

    #[test]
    fn a_share_of_the_requests_and_a_few_a_second() {
        let now = Instant::now();
        let cases =
            [((20, 0), 100, 20), ((20, 10), 100, 20), ((20, 10), 0, 10), ((0, 3), 100, 3), ((0, 0), 100, 0)];
        for ((percent, least), requests, expected) in cases {
            let budget = budget(percent, least, now);
            (0..requests).for_each(|_| budget.request(now));
            assert_eq!(paid(&budget, now), expected, "{percent} {least} {requests}");
            assert_eq!(budget.exhausted(), 1_000 - expected as u64);
        }
    }

    #[test]
    fn old_requests_and_retries_are_forgotten() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let budget = budget(20, 1, start);
        (0..100).for_each(|_| budget.request(start));
        assert_eq!(paid(&budget, after(9)), 20, "still of the window");
        assert_eq!(paid(&budget, after(10)), 1, "each second has its own");
        (0..100).for_each(|_| budget.request(after(18)));
        assert_eq!(paid(&budget, after(18)), 1, "the share went at 9");
        assert_eq!(paid(&budget, after(19)), 18, "two retries of the window remain");
        assert_eq!(paid(&budget, after(1_000)), 1);
        assert_eq!(paid(&budget, start), 0, "time does not go back");
    }

    #[test]
    fn a_permit_is_under_way_until_dropped() {
        let now = Instant::now();
        let budget = budget(0, 2, now);
        let permits = (budget.retry(now), budget.retry(now));
        assert_eq!(budget.active(), 2);
        drop(permits);
        assert_eq!(budget.active(), 0);
        assert!(budget.retry(now).is_none(), "it is spent all the same");
    }
}
