//! What the project wants of itself: ratios within one run.

use serde::Serialize;

use crate::case::{Case, Direction, LARGE, Pinning, SMALL};
use crate::metric::Metric;
use crate::mode::Mode;
use crate::results::Results;
use crate::stats::{Series, Spread, added_ratio, ratio};
use crate::suite::Suite;

/// A ratio, or a quantity in its unit, and what it should be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    /// None when the run did not measure it.
    pub(crate) seen: Option<Spread>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    /// Whether the median is within the bound.
    pub(crate) fn is_met(&self) -> Option<bool> {
        self.seen.map(|seen| match self.bound {
            Bound::AtMost(limit) => seen.median <= limit,
            Bound::AtLeast(limit) => seen.median >= limit,
        })
    }
}

/// All bars of the run's suite.
pub(crate) fn bars(results: &Results) -> Vec<Bar> {
    match results.suite {
        Suite::Tcp => tcp(results),
        Suite::Http => http(results),
        // No aims are set.
        Suite::Pods => vec![],
    }
}

fn tcp(results: &Results) -> Vec<Bar> {
    use Bound::{AtLeast, AtMost};
    use Mode::{Ebpf, EbpfFull as Full, EnvoyIptables as Envoy, Iptables};
    use Pinning::{Apart, Free, One};

    let mut bars = Vec::new();
    let mut bar = |what: String, bound, series: Series| {
        bars.push(Bar { what, bound, seen: Spread::of(&series) });
    };
    let added = |case, a, b| results.added(case, Metric::P50, a, b);
    for (pinning, limit) in [(One, 0.45), (Apart, 0.40)] {
        let case = Case::ping_pong(SMALL, 1, pinning);
        bar(format!("{case}: added p50, {Full} to {Iptables}"), AtMost(limit), added(case, Full, Iptables));
    }
    for (size, limit) in [(SMALL, 1.7), (LARGE, 1.6)] {
        let case = Case::ping_pong(size, 16, Free);
        let series = results.ratio(case, Metric::Rate, Full, Iptables);
        bar(format!("{case}: rate, {Full} to {Iptables}"), AtLeast(limit), series);
    }
    for direction in [Direction::Up, Direction::Down] {
        let case = Case::bulk(direction, Free);
        for (mode, limit) in [(Iptables, 1.0), (Full, 1.3)] {
            let series = results.ratio(case, Metric::Throughput, mode, Envoy);
            bar(format!("{case}: {mode} to {Envoy}"), AtLeast(limit), series);
        }
    }
    let case = Case::connect(Free);
    for (mode, other, limit) in [(Ebpf, Iptables, 1.05), (Full, Iptables, 0.95), (Full, Envoy, 1.2)] {
        let series = results.ratio(case, Metric::Rate, mode, other);
        bar(format!("{case}: rate, {mode} to {other}"), AtLeast(limit), series);
    }
    for pinning in [One, Apart] {
        let case = Case::ping_pong(SMALL, 1, pinning);
        bar(format!("{case}: added p50, {Full} to {Envoy}"), AtMost(0.4), added(case, Full, Envoy));
    }
    let case = Case::ping_pong(SMALL, 16, Free);
    for (whose, metric) in
        [("the machine", Metric::MachineCpuPerMillion), ("the processes", Metric::ProcessCpuPerMillion)]
    {
        let series = results.ratio(case, metric, Full, Envoy);
        bar(format!("{case}: CPU of {whose} for a message, {Full} to {Envoy}"), AtMost(0.7), series);
    }
    for (what, metric) in [("idle", Metric::ResidentIdle), ("with 1000 connections", Metric::Resident)] {
        let series = results.ratio(Case::hold(), metric, Full, Envoy);
        bar(format!("resident memory {what}, {Full} to {Envoy}"), AtMost(0.15), series);
    }
    bars
}

fn http(results: &Results) -> Vec<Bar> {
    use Bound::{AtLeast, AtMost};
    use Metric::{P50, P99, ProxyCpuPerMillion, Rate, Resident, ResidentIdle};
    use Mode::{EnvoyIptables as Envoy, Policies, Route};

    let (http1, paced, http2, grpc) = (Case::http1(), Case::paced(), Case::http2(), Case::grpc());
    let (hold, routes) = (Case::hold_http(), Case::routes());
    let mut bars = Vec::new();
    for mode in [Mode::Ebpf, Mode::EbpfFull] {
        let mut bar = |what: String, bound, series: Series| {
            bars.push(Bar { what, bound, seen: Spread::of(&series) });
        };
        let ratio = |case, metric| results.ratio(case, metric, mode, Envoy);
        let added = |metric| results.added(paced, metric, mode, Envoy);
        bar(format!("{http1}: rate, {mode} to {Envoy}"), AtLeast(1.7), ratio(http1, Rate));
        let cpu = ratio(http1, ProxyCpuPerMillion);
        bar(format!("{http1}: CPU of the proxy for a request, {mode} to {Envoy}"), AtMost(0.6), cpu);
        bar(format!("{paced}: added p50, {mode} to {Envoy}"), AtMost(0.6), added(P50));
        bar(format!("{paced}: added p99, {mode} to {Envoy}"), AtMost(0.8), added(P99));
        bar(format!("{http2}: rate, {mode} to {Envoy}"), AtLeast(1.2), ratio(http2, Rate));
        bar(format!("{grpc}: rate, {mode} to {Envoy}"), AtLeast(1.2), ratio(grpc, Rate));
        let resident = ratio(hold, Resident);
        bar(format!("{hold}: resident memory, {mode} to {Envoy}"), AtMost(0.25), resident);
        let idle = results.of(hold).map(|measured| measured.series(mode, ResidentIdle)).unwrap_or_default();
        let idle = idle.into_iter().map(|bytes| Some(ResidentIdle.in_unit(bytes?))).collect();
        bar(format!("resident memory idle in MB, {mode}"), AtMost(12.0), idle);
    }
    let seen = Spread::of(&results.ratio(routes, Rate, Policies, Route));
    bars.push(Bar { what: format!("{routes}: rate, {Policies} to {Route}"), bound: AtLeast(0.85), seen });
    bars
}

// === impl Results ===

impl Results {
    fn ratio(&self, case: Case, metric: Metric, a: Mode, b: Mode) -> Series {
        let of = |mode| self.of(case).map(|measured| measured.series(mode, metric)).unwrap_or_default();
        ratio(&of(a), &of(b))
    }

    fn added(&self, case: Case, metric: Metric, a: Mode, b: Mode) -> Series {
        let of = |mode| self.of(case).map(|measured| measured.series(mode, metric)).unwrap_or_default();
        added_ratio(&of(a), &of(b), &of(Mode::Direct))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Sample;

    fn bar(bound: Bound, median: Option<f64>) -> Option<bool> {
        let seen = median.map(|median| Spread { median, min: 0.0, max: 9.0 });
        Bar { what: String::new(), bound, seen }.is_met()
    }

    #[test]
    fn the_median_decides() {
        assert_eq!(bar(Bound::AtMost(0.45), Some(0.45)), Some(true));
        assert_eq!(bar(Bound::AtMost(0.45), Some(0.46)), Some(false));
        assert_eq!(bar(Bound::AtLeast(1.7), Some(1.8)), Some(true));
        assert_eq!(bar(Bound::AtLeast(1.7), Some(1.6)), Some(false));
        assert_eq!(bar(Bound::AtLeast(1.7), None), None);
    }

    /// The verdicts on one round of a case with these rates.
    fn verdicts<const N: usize>(case: Case, rates: [(Mode, f64); N]) -> Vec<(String, bool)> {
        let round = rates.map(|(mode, rate)| (mode, Sample::from([(Metric::Rate, rate)])));
        let results = Results::of_round(Suite::Http, &rates.map(|(mode, _)| mode), case, round.into());
        let seen = bars(&results).into_iter().filter_map(|bar| Some((bar.is_met()?, bar.what)));
        seen.map(|(is_met, what)| (what, is_met)).collect()
    }

    #[test]
    fn policies_are_compared_with_the_plain_route() {
        let of = |policies| verdicts(Case::routes(), [(Mode::Route, 100.0), (Mode::Policies, policies)]);
        let what = "HTTP/1.1 by a route, 64 connections, proxy apart: rate, eBPF policies to eBPF route";
        assert_eq!((of(86.0), of(84.0)), (vec![(what.into(), true)], vec![(what.into(), false)]));
    }

    #[test]
    fn calls_are_compared_with_envoy() {
        let rates = [(Mode::Ebpf, 119.0), (Mode::EbpfFull, 121.0), (Mode::EnvoyIptables, 100.0)];
        let what = |mode: &str| format!("gRPC, 100 streams, proxy apart: rate, {mode} to Envoy iptables");
        assert_eq!(verdicts(Case::grpc(), rates), [(what("eBPF"), false), (what("eBPF full"), true)]);
    }
}
