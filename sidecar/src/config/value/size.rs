//! Sizes in bytes: `64KiB`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::is_digits;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::config) struct ByteSize(pub u64);

/// Why a text is not a size, or not one that is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum SizeError {
    #[error("write a size such as 64KiB: a whole number with B, KiB, MiB, GiB or nothing for bytes")]
    Malformed,
    #[error("write a size from {0} to {1}")]
    OutOfRange(ByteSize, ByteSize),
}

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// Reads a size of this range, in bytes.
    pub(in crate::config) fn parse_within(
        range: RangeInclusive<Self>,
    ) -> impl Fn(&str) -> Result<usize, SizeError> {
        move |text| {
            let size = text.parse()?;
            let out_of_range = SizeError::OutOfRange(*range.start(), *range.end());
            if !range.contains(&size) {
                return Err(out_of_range);
            }
            usize::try_from(size.0).map_err(|_| out_of_range)
        }
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let bytes = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, bytes)) => *bytes,
            None if unit.is_empty() => 1,
            None => return Err(SizeError::Malformed),
        };
        if !is_digits(digits) {
            return Err(SizeError::Malformed);
        }
        let number: u64 = digits.parse().map_err(|_| SizeError::Malformed)?;
        number.checked_mul(bytes).map(Self).ok_or(SizeError::Malformed)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = whole.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_numbers_with_a_unit() {
        let read = |text: &str| text.parse().map(|ByteSize(bytes)| bytes);
        assert_eq!(read("64KiB"), Ok(65_536));
        assert_eq!(read("65536"), Ok(65_536));
        assert_eq!(read("1B"), Ok(1));
        assert_eq!(read("3GiB"), Ok(3 << 30));
        for bad in [
            "",
            "KiB",
            "64KB",
            "64 KiB",
            "64kib",
            "-1",
            "+1",
            "1.5MiB",
            "99999999999999999999",
            "18014398509481984KiB",
        ] {
            assert_eq!(read(bad), Err(SizeError::Malformed), "{bad}");
        }
    }

    #[test]
    fn keeps_to_the_range() {
        let parse = ByteSize::parse_within(ByteSize(8192)..=ByteSize(1 << 20));
        assert_eq!(parse("8KiB"), Ok(8192));
        let error = parse("2MiB").map_err(|error| error.to_string());
        assert_eq!(error, Err("write a size from 8KiB to 1MiB".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
            let kibibytes = ByteSize(bytes >> 10 << 10);
            prop_assert_eq!(kibibytes.to_string().parse(), Ok(kibibytes));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
