//! Medians, spreads and ratios. Rounds in which a value is missing do not count.

use serde::Serialize;

/// The values of one quantity, a round each; None where the round has none.
pub(crate) type Series = Vec<Option<f64>>;

/// The middle of some rounds, and how far they lie apart.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of all rounds that have a value; None when none has.
    pub(crate) fn of(series: &[Option<f64>]) -> Option<Self> {
        let mut values: Vec<f64> =
            series.iter().flatten().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

/// `a / b`, round by round: neighbours in time are compared, so that what disturbs a whole round cancels out.
pub(crate) fn ratio(a: &[Option<f64>], b: &[Option<f64>]) -> Series {
    a.iter().zip(b).map(|(a, b)| Some((*a)? / (*b)?)).collect()
}

/// What `a` adds to `base`, as a part of what `b` adds to it, round by round.
pub(crate) fn added_ratio(a: &[Option<f64>], b: &[Option<f64>], base: &[Option<f64>]) -> Series {
    let minus = |x: &[Option<f64>]| -> Series {
        x.iter().zip(base).map(|(x, base)| Some((*x)? - (*base)?)).collect()
    };
    ratio(&minus(a), &minus(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(values: &[f64]) -> Series {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        assert_eq!(Spread::of(&all(&[9.0, 1.0, 5.0])), Some(Spread { median: 5.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of(&all(&[9.0, 1.0, 5.0, 6.0])).map(|spread| spread.median), Some(5.5));
        assert_eq!(Spread::of(&all(&[2.0])), Some(Spread { median: 2.0, min: 2.0, max: 2.0 }));
    }

    #[test]
    fn missing_and_infinite_rounds_do_not_count() {
        assert_eq!(Spread::of(&[None, Some(3.0), Some(f64::INFINITY)]).map(|spread| spread.max), Some(3.0));
        assert_eq!(Spread::of(&[None]), None);
        assert_eq!(ratio(&[Some(1.0), Some(6.0)], &[None, Some(3.0)]), [None, Some(2.0)]);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The second round is disturbed: both are ten times slower.
        let ratios = ratio(&all(&[2.0, 20.0, 2.0]), &all(&[1.0, 10.0, 1.0]));
        assert_eq!(Spread::of(&ratios), Some(Spread { median: 2.0, min: 2.0, max: 2.0 }));
    }

    #[test]
    fn what_is_added_is_compared_without_the_base() {
        let (full, iptables, direct) = (all(&[23.0]), all(&[34.0]), all(&[14.0]));
        assert_eq!(added_ratio(&full, &iptables, &direct), [Some(9.0 / 20.0)]);
    }
}
