//! Whole numbers.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::is_digits;

/// Why a text is not a number of the range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write a whole number from {0} to {1}")]
pub(in crate::config) struct NumberError<T>(T, T);

/// Reads a number of this range, in decimal digits.
pub(in crate::config) fn number<T: FromStr + PartialOrd + Display + Copy>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, NumberError<T>> {
    move |text| {
        let number = if is_digits(text) { text.parse().ok() } else { None };
        number.filter(|number| range.contains(number)).ok_or(NumberError(*range.start(), *range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_to_the_range() {
        let parse = number(1..=100_u32);
        assert_eq!(parse("1"), Ok(1));
        assert_eq!(parse("100"), Ok(100));
        for bad in ["0", "101", "", "-1", "+1", "1.0", "0x10", "99999999999", "ten"] {
            assert_eq!(parse(bad), Err(NumberError(1, 100)), "{bad}");
        }
    }
}
