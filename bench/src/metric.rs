//! What a measurement yields.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// A quantity; each has one unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Metric {
    /// Latency in microseconds, half of the messages are faster.
    P50,
    /// Nine of ten are.
    P90,
    /// 99 of 100 are.
    P99,
    /// 999 of 1000 are.
    P999,
    /// Messages, or connections, in a second.
    Rate,
    /// Payload in bytes in a second.
    Throughput,
    /// Seconds in which some processor of the machine was busy, for a million messages or connections.
    MachineCpuPerMillion,
    /// Seconds of client, server and proxy, for a million messages or connections.
    ProcessCpuPerMillion,
    /// Seconds of the proxy alone, for a million messages.
    ProxyCpuPerMillion,
    /// Messages in a second that were due.
    Offered,
    /// Seconds in which some processor of the machine was busy, for 10^9 bytes.
    MachineCpuPerGigabyte,
    /// Seconds of client, server and proxy, for 10^9 bytes.
    ProcessCpuPerGigabyte,
    /// The proxy's resident bytes before it had any connection.
    ResidentIdle,
    /// The proxy's resident bytes with the case's connections.
    Resident,
    /// Anonymous resident bytes that each connection adds in the proxy.
    ResidentPerConnection,
    /// Bytes of the kernel's maps that the proxy holds.
    KernelMaps,
    /// Processors that other than client, server and proxy kept busy meanwhile.
    Others,
    /// Connections that failed or made no progress.
    Failures,
    /// The part of the program's payload that went past the TCP stack, 0 to 1.
    BypassShare,
    /// The part of the program's payload that went past the TCP stack between the proxies of two Pods, 0 to 1.
    SameNodeShare,
}

/// One measurement.
pub(crate) type Sample = BTreeMap<Metric, f64>;

impl Metric {
    /// Its name with its unit, as column heads show it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::P50 => "p50 µs",
            Self::P90 => "p90 µs",
            Self::P99 => "p99 µs",
            Self::P999 => "p99.9 µs",
            Self::Rate => "per second",
            Self::Throughput => "GB/s",
            Self::MachineCpuPerMillion => "CPU s per million",
            Self::MachineCpuPerGigabyte => "CPU s per GB",
            Self::ProxyCpuPerMillion => "of it in the proxy",
            Self::Offered => "offered per second",
            Self::ProcessCpuPerMillion | Self::ProcessCpuPerGigabyte => "of it in processes",
            Self::ResidentIdle => "idle MB",
            Self::Resident => "resident MB",
            Self::ResidentPerConnection => "bytes per connection",
            Self::KernelMaps => "kernel maps MB",
            Self::Others => "processors of others",
            Self::Failures => "failures",
            Self::BypassShare => "bypassed %",
            Self::SameNodeShare => "between proxies %",
        }
    }

    /// The value in the unit of [`Self::title`].
    pub(crate) fn in_unit(self, value: f64) -> f64 {
        match self {
            Self::Throughput => value / 1e9,
            Self::ResidentIdle | Self::Resident | Self::KernelMaps => value / 1e6,
            Self::BypassShare | Self::SameNodeShare => value * 100.0,
            _ => value,
        }
    }

    /// The value in its unit, as text.
    pub(crate) fn shown(self, value: f64) -> Shown {
        Shown(self.in_unit(value))
    }
}

/// A number with three significant digits, or all of its integer part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown(f64);

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0.abs() {
            0.0 => 0,
            size if size < 1.0 => 3,
            size if size < 10.0 => 2,
            size if size < 100.0 => 1,
            _ => 0,
        };
        // Zero, and what rounds to it, has no sign.
        write!(f, "{:.digits$}", self.0 + 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_in_their_unit() {
        assert_eq!(Metric::P50.shown(14.62).to_string(), "14.6");
        assert_eq!(Metric::Rate.shown(168_012.3).to_string(), "168012");
        assert_eq!(Metric::Throughput.shown(1.7349e9).to_string(), "1.73");
        assert_eq!(Metric::BypassShare.shown(0.5).to_string(), "50.0");
        assert_eq!(Metric::Failures.shown(0.0).to_string(), "0");
    }

    #[test]
    fn a_sample_is_a_json_object() {
        let sample = Sample::from([(Metric::P999, 2.0)]);
        let text = serde_json::to_string(&sample).unwrap();
        assert_eq!(text, r#"{"p999":2.0}"#);
        assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample);
    }
}
