//! Random numbers that a seed repeats.

use std::ops::RangeInclusive;

use crate::stamp::mix;

/// SplitMix64: a counter, mixed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of this seed and this number within it.
    pub(crate) fn new(seed: u64, sequence: u64) -> Self {
        Self(mix(seed) ^ mix(sequence.wrapping_add(0x9e37_79b9)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// One of these numbers, all equally likely.
    pub(crate) fn from(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    /// One of these numbers, all magnitudes equally likely.
    pub(crate) fn of_any_size(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (least, most) = (*range.start(), *range.end());
        let bits = self.from(u64::from(least.max(1).ilog2())..=u64::from(most.ilog2()));
        self.from(1 << bits..=(2 << bits) - 1).clamp(least, most)
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, times: u64) -> bool {
        self.from(0..=99) < times
    }

    /// One of these, as likely as its weight says.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let sum: u64 = choices.iter().map(|(weight, _)| weight).sum();
        let mut left = self.from(0..=sum - 1);
        for (weight, choice) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        choices[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_numbers_stay_in_range() {
        let sequence = |seed| {
            let mut random = Random::new(seed, 1);
            (0..100).map(|_| random.of_any_size(1..=5000)).collect::<Vec<_>>()
        };
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
        assert!(sequence(1).iter().all(|number| (1..=5000).contains(number)));
        assert_eq!(Random::new(1, 1).pick(&[(0, 'a'), (1, 'b')]), 'b');
    }
}
