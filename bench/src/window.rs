//! How much a receiver of bulk data gets in the time that counts.

use std::time::{Duration, Instant};

/// What is read and written at once in bulk.
pub(crate) const CHUNK: usize = 256 << 10;

/// Counts from the first byte: through a warm-up, then through the measurement.
#[derive(Debug)]
pub(crate) struct Window {
    warmup: Duration,
    length: Duration,
    bytes: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Empty,
    WarmingUp { since: Instant },
    Measuring { since: Instant, before: u64 },
    Over,
}

impl Window {
    pub(crate) fn new(warmup: Duration, length: Duration) -> Self {
        Self { warmup, length, bytes: 0, phase: Phase::Empty }
    }

    /// `length` more bytes are there. Returns once, as the measurement ends, its bytes and its time.
    pub(crate) fn observe(&mut self, now: Instant, length: usize) -> Option<(u64, Duration)> {
        self.bytes += u64::try_from(length).unwrap_or(u64::MAX);
        match self.phase {
            Phase::Empty => self.phase = Phase::WarmingUp { since: now },
            Phase::WarmingUp { since } if now - since >= self.warmup => {
                self.phase = Phase::Measuring { since: now, before: self.bytes };
            }
            Phase::Measuring { since, before } if now - since >= self.length => {
                self.phase = Phase::Over;
                return Some((self.bytes - before, now - since));
            }
            Phase::WarmingUp { .. } | Phase::Measuring { .. } | Phase::Over => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_after_the_warm_up_counts() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut window = Window::new(Duration::from_millis(10), Duration::from_millis(20));
        let seen: Vec<_> = [(0, 1), (5, 2), (10, 4), (15, 8), (31, 16), (99, 32)]
            .map(|(ms, bytes)| window.observe(at(ms), bytes))
            .into();
        assert_eq!(seen, [None, None, None, None, Some((24, Duration::from_millis(21))), None]);
    }
}
