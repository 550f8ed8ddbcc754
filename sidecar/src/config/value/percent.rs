//! Shares in percent: `1%`, `0.1%`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::is_digits;

/// A share from 0 to 100 percent, in steps of 0.0001 percent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Percent {
    millionths: u32,
}

/// Why a text is not a share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "write a share from 0% to 100% with a percent sign and up to 4 digits after the point, such as 1% or 0.5%"
)]
pub struct PercentError;

/// Why a text is not a share of a field whose name says that it is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write a share from 0 to 100, with up to 4 digits after the point, such as 20 or 0.5")]
pub(in crate::config) struct BarePercentError;

/// Millionths of the whole in one percent.
const ONE_PERCENT: u32 = 10_000;
const MAX_FRACTION_DIGITS: usize = 4;

impl Percent {
    /// One percent.
    pub const ONE: Self = Self { millionths: ONE_PERCENT };

    /// So many percent, 100 at most.
    pub const fn whole(percent: u32) -> Self {
        let percent = if percent > 100 { 100 } else { percent };
        Self { millionths: percent * ONE_PERCENT }
    }

    /// In millionths of the whole, from 0 to 1,000,000.
    pub fn millionths(self) -> u32 {
        self.millionths
    }
}

/// Reads a share whose percent sign may be left out.
pub(in crate::config) fn parse_bare(text: &str) -> Result<Percent, BarePercentError> {
    let number = text.strip_suffix('%').unwrap_or(text);
    format!("{number}%").parse().map_err(|PercentError| BarePercentError)
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let number = text.strip_suffix('%').ok_or(PercentError)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if !is_digits(whole)
            || whole.len() > 3
            || !is_digits(fraction)
            || fraction.len() > MAX_FRACTION_DIGITS
        {
            return Err(PercentError);
        }
        // Digits alone, and few: `1.5` is 1 and 5000 ten-thousandths.
        let parse = |digits: &str| digits.parse::<u32>().map_err(|_| PercentError);
        let millionths = parse(whole)? * ONE_PERCENT + parse(&format!("{fraction:0<MAX_FRACTION_DIGITS$}"))?;
        if millionths > 100 * ONE_PERCENT { Err(PercentError) } else { Ok(Self { millionths }) }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:04}", self.millionths % ONE_PERCENT);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{}{point}{fraction}%", self.millionths / ONE_PERCENT)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_shares() {
        let read = |text: &str| text.parse().map(Percent::millionths);
        assert_eq!(read("1%"), Ok(10_000));
        assert_eq!(read("0.1%"), Ok(1_000));
        assert_eq!(read("0.0001%"), Ok(1));
        assert_eq!(read("100%"), Ok(1_000_000));
        for bad in
            ["", "%", "1", "0.1", "100.0001%", "101%", "-1%", "+1%", "1.%", ".5%", "0.00001%", "1 %", "1e1%"]
        {
            assert_eq!(read(bad), Err(PercentError), "{bad}");
        }
    }

    #[test]
    fn the_sign_may_be_left_out_where_the_field_says_it() {
        let read = |text| parse_bare(text).map(Percent::millionths);
        assert_eq!(read("20"), Ok(200_000));
        assert_eq!(read("0.1%"), Ok(1_000));
        assert_eq!(read("20"), Ok(Percent::whole(20).millionths()));
        for bad in ["", "%", "101", "1%%", "-1", "1e1"] {
            assert_eq!(read(bad), Err(BarePercentError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(millionths in 0..=1_000_000_u32) {
            let percent = Percent { millionths };
            prop_assert_eq!(percent.to_string().parse(), Ok(percent));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Percent>();
        }
    }
}
