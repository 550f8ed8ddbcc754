//! Durations as the Gateway API writes them (GEP-2257): `1h30m`, `10s`, `500ms`.

use std::fmt;
use std::time::Duration;

use serde::Serializer;

use super::is_digits;

/// Why a text is not a duration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum DurationError {
    #[error(
        "write a duration such as 10s, 1h30m or 500ms: one to four numbers of up to 5 digits, each with h, m, s or ms"
    )]
    Malformed,
    #[error("must be longer than 0s")]
    Zero,
}

/// Units with their milliseconds. `ms` stands before `m`, whose beginning it shares.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1_000)];
const MAX_PARTS: usize = 4;
const MAX_DIGITS: usize = 5;

/// Reads `^([0-9]{1,5}(h|m|s|ms)){1,4}$`. Zero is a duration.
pub(in crate::config) fn parse(text: &str) -> Result<Duration, DurationError> {
    let (mut rest, mut millis) = (text, 0);
    for part in 0.. {
        if rest.is_empty() && part > 0 {
            break;
        }
        if part == MAX_PARTS {
            return Err(DurationError::Malformed);
        }
        let (value, tail) = parse_part(rest).ok_or(DurationError::Malformed)?;
        (millis, rest) = (millis + value, tail);
    }
    Ok(Duration::from_millis(millis))
}

/// Reads a duration that is not zero.
pub(in crate::config) fn parse_positive(text: &str) -> Result<Duration, DurationError> {
    let duration = parse(text)?;
    if duration.is_zero() { Err(DurationError::Zero) } else { Ok(duration) }
}

/// The milliseconds of the first part, and the rest.
fn parse_part(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    if !is_digits(digits) || digits.len() > MAX_DIGITS {
        return None;
    }
    let (unit, millis) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
    let value: u64 = digits.parse().ok()?;
    Some((value * millis, &rest[unit.len()..]))
}

/// For `#[serde(serialize_with)]`.
pub(in crate::config) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&Written(*duration))
}

/// Likewise, for one that may not be given.
#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(in crate::config) fn serialize_some<S: Serializer>(
    duration: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serialize(duration, to),
        None => to.serialize_none(),
    }
}

/// Displays as [`parse`] reads it, in whole milliseconds; from 100,000 hours on, with more digits.
struct Written(Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if millis >= length {
                write!(f, "{}{unit}", millis / length)?;
                millis %= length;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_grammar_allows() {
        let read = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!(read("10s"), Ok(10_000));
        assert_eq!(read("1h30m"), Ok(5_400_000));
        assert_eq!(read("1m1ms"), Ok(60_001));
        assert_eq!(read("0s"), Ok(0));
        assert_eq!(read("1s1s"), Ok(2_000));
        assert_eq!(read("99999h99999h99999h99999h"), Ok(4 * 99_999 * 3_600_000));
        for bad in
            ["", "10", "s", "1.5s", "-1s", "+1s", "1d", "100000s", "1s1s1s1s1s", " 1s", "1 s", "1µs", "1S"]
        {
            assert_eq!(read(bad), Err(DurationError::Malformed), "{bad}");
        }
        assert_eq!(parse_positive("0h0ms"), Err(DurationError::Zero));
    }

    proptest! {
        #[test]
        fn agrees_with_the_grammar(text in "([0-9]{0,6}(h|m|s|ms|d)?){0,5}") {
            // The grammar once more, as a state machine over characters.
            let mut parts = 0;
            let mut rest = text.as_str();
            let valid = loop {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let tail = &rest[digits..];
                let unit = ["ms", "h", "m", "s"].iter().find(|unit| tail.starts_with(**unit));
                let (1..=5, Some(unit)) = (digits, unit) else { break false };
                parts += 1;
                rest = &tail[unit.len()..];
                if rest.is_empty() { break parts <= 4 }
            };
            prop_assert_eq!(parse(&text).is_ok(), valid);
        }

        #[test]
        fn what_is_written_is_read(millis in 0..100_000_u64 * 3_600_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&Written(duration).to_string()), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
