//! Whether traffic may be sent here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::host::age;

/// Says whether traffic may be sent here: all conditions hold, and no drain has begun. A handle: clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// A bit for each [`Condition`] that does not hold, and [`DRAINING`].
    obstacles: Arc<AtomicU8>,
}

/// What readiness needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Condition {
    /// A configuration was accepted.
    ConfigLoaded = 1 << 0,
    /// All listeners are bound.
    ListenersBound = 1 << 1,
    /// The programs or rules that bring traffic here are in place.
    Armed = 1 << 2,
}

const DRAINING: u8 = 1 << 7;

impl Readiness {
    /// Not ready until each of `needed` is met.
    pub fn new(needed: &[Condition]) -> Self {
        let obstacles = needed.iter().fold(0, |bits, &condition| bits | condition as u8);
        Self { obstacles: Arc::new(AtomicU8::new(obstacles)) }
    }

    /// The condition holds from now on.
    pub fn met(&self, condition: Condition) {
        let before = self.obstacles.fetch_and(!(condition as u8), Ordering::AcqRel);
        if before == condition as u8 {
            tracing::info!(age = ?age::own().unwrap_or_default(), "ready");
        }
    }

    /// The condition no longer holds.
    pub fn lost(&self, condition: Condition) {
        self.obstacles.fetch_or(condition as u8, Ordering::AcqRel);
    }

    /// Not ready for the rest of this process.
    pub fn drain(&self) {
        self.obstacles.fetch_or(DRAINING, Ordering::AcqRel);
    }

    /// Why not, if not.
    pub fn check(&self) -> Result<(), &'static str> {
        let obstacles = self.obstacles.load(Ordering::Acquire);
        let reasons = [
            (DRAINING, "draining"),
            (Condition::ConfigLoaded as u8, "no configuration is loaded"),
            (Condition::ListenersBound as u8, "listeners are not bound"),
            (Condition::Armed as u8, "programs are not armed"),
        ];
        reasons.into_iter().find(|(bit, _)| obstacles & bit != 0).map_or(Ok(()), |(_, reason)| Err(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::{Condition, Readiness};

    #[test]
    fn ready_when_all_that_is_needed_is_met_and_never_after_a_drain() {
        let readiness = Readiness::new(&[Condition::ListenersBound, Condition::Armed]);
        assert_eq!(readiness.check(), Err("listeners are not bound"));
        readiness.met(Condition::ListenersBound);
        assert_eq!(readiness.check(), Err("programs are not armed"));
        readiness.met(Condition::Armed);
        assert_eq!(readiness.check(), Ok(()));
        readiness.lost(Condition::Armed);
        assert_eq!(readiness.check(), Err("programs are not armed"));
        readiness.drain();
        readiness.met(Condition::Armed);
        assert_eq!(readiness.check(), Err("draining"));
    }
}
