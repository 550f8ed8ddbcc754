//! What is measured: a load, and where its processes may run.

use std::fmt::{self, Display};
use std::time::Duration;

use serde::Serialize;

use crate::mode::Mode;

/// One load under one pinning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) load: Load,
    pub(crate) pinning: Pinning,
}

/// What client and server do with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Load {
    /// Connections that do nothing, after one exchange each: for memory.
    Hold { connections: usize },
    /// Each connection sends a message and waits until all of it is echoed, again and again.
    PingPong { size: usize, connections: usize },
    /// Workers that connect, exchange one message and close, again and again.
    Connect { workers: usize },
    /// One connection, as much as it takes.
    Bulk { direction: Direction },
    /// As [`Self::Hold`], with a request of HTTP/1.1 on each before and after.
    HoldHttp { connections: usize },
    /// Requests of HTTP/1.1 on connections that stay, each as soon as the last was answered.
    Http1 { connections: usize },
    /// The same, each when it is due: at half of the rate that Envoy has in [`Self::Http1`].
    Paced { connections: usize },
    /// So many requests at a time on one connection of HTTP/2.
    Http2 { streams: usize },
    /// The same with unary calls of gRPC.
    Grpc { streams: usize },
    /// As [`Self::Http1`] with a token in each request, by the routes of [`Mode::Route`] and [`Mode::Policies`].
    Routes { connections: usize },
}

/// Where bulk data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// On which processors the processes of a case run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Pinning {
    /// Wherever the scheduler puts them.
    Free,
    /// All on one.
    One,
    /// The client on one, server and proxy on another.
    Apart,
    /// The proxy on one, client and server on another.
    ProxyApart,
}

/// How long a run measures, and what.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: usize,
    /// Load before the measurement begins.
    pub(crate) warmup: Duration,
    /// The measurement.
    pub(crate) length: Duration,
}

/// The message of a load that has but one size.
pub(crate) const SMALL: usize = 64;
/// The large message.
pub(crate) const LARGE: usize = 16 << 10;

const HOLD: Load = Load::Hold { connections: 1000 };
const CONNECT: Load = Load::Connect { workers: 8 };
const HTTP1: Load = Load::Http1 { connections: 64 };
const PACED: Load = Load::Paced { connections: 64 };
const HTTP2: Load = Load::Http2 { streams: 100 };
const GRPC: Load = Load::Grpc { streams: 100 };
const ROUTES: Load = Load::Routes { connections: 64 };
const HOLD_HTTP: Load = Load::HoldHttp { connections: 1000 };

// === impl Plan ===

impl Plan {
    /// Everything.
    pub(crate) fn full() -> Self {
        use Pinning::{Apart, Free, One};
        let mut cases = vec![Case::new(HOLD, Free)];
        for size in [SMALL, 1 << 10, LARGE] {
            for connections in [1, 16, 256] {
                cases.push(Case::ping_pong(size, connections, Free));
            }
        }
        for pinning in [One, Apart] {
            for (size, connections) in [(SMALL, 1), (SMALL, 16), (LARGE, 1), (LARGE, 16)] {
                cases.push(Case::ping_pong(size, connections, pinning));
            }
        }
        for pinning in [Free, One, Apart] {
            cases.push(Case::new(CONNECT, pinning));
            for direction in [Direction::Up, Direction::Down] {
                cases.push(Case::bulk(direction, pinning));
            }
        }
        Self { cases, rounds: 5, warmup: Duration::from_millis(250), length: Duration::from_millis(500) }
    }

    /// What the bars are about.
    pub(crate) fn quick() -> Self {
        use Pinning::{Apart, Free, One};
        let cases = vec![
            Case::new(HOLD, Free),
            Case::ping_pong(SMALL, 1, One),
            Case::ping_pong(SMALL, 1, Apart),
            Case::ping_pong(SMALL, 16, Free),
            Case::ping_pong(LARGE, 16, Free),
            Case::connect(Free),
            Case::bulk(Direction::Up, Free),
            Case::bulk(Direction::Down, Free),
        ];
        Self { cases, rounds: 3, warmup: Duration::from_millis(150), length: Duration::from_millis(300) }
    }

    /// What lies between two Pods: the same, without the memory.
    pub(crate) fn pods(quick: bool) -> Self {
        let mut cases = Self::quick().cases;
        cases.retain(|case| case.load != HOLD);
        let plan = if quick { Self::quick() } else { Self::full() };
        Self { cases, ..plan }
    }

    /// The proxy as one that forwards requests.
    pub(crate) fn http(quick: bool) -> Self {
        let cases = vec![
            Case::hold_http(),
            Case::http1(),
            Case::paced(),
            Case::http2(),
            Case::grpc(),
            Case::routes(),
        ];
        let (rounds, warmup, length) = if quick { (3, 300, 1000) } else { (5, 500, 2000) };
        let [warmup, length] = [warmup, length].map(Duration::from_millis);
        Self { cases, rounds, warmup, length }
    }

    /// Keeps the cases whose identifier contains one of `wanted`, and what they need the results of.
    pub(crate) fn only(&mut self, wanted: &[String]) {
        let is_wanted = |case: &Case| wanted.iter().any(|part| case.id().contains(part.as_str()));
        let paced = self.cases.contains(&Case::paced()) && is_wanted(&Case::paced());
        self.cases.retain(|case| is_wanted(case) || paced && *case == Case::http1());
    }
}

// === impl Case ===

impl Case {
    fn new(load: Load, pinning: Pinning) -> Self {
        Self { load, pinning }
    }

    pub(crate) fn hold() -> Self {
        Self::new(HOLD, Pinning::Free)
    }

    pub(crate) fn ping_pong(size: usize, connections: usize, pinning: Pinning) -> Self {
        Self::new(Load::PingPong { size, connections }, pinning)
    }

    pub(crate) fn connect(pinning: Pinning) -> Self {
        Self::new(CONNECT, pinning)
    }

    pub(crate) fn bulk(direction: Direction, pinning: Pinning) -> Self {
        Self::new(Load::Bulk { direction }, pinning)
    }

    pub(crate) fn hold_http() -> Self {
        Self::new(HOLD_HTTP, Pinning::ProxyApart)
    }

    pub(crate) fn http1() -> Self {
        Self::new(HTTP1, Pinning::ProxyApart)
    }

    pub(crate) fn paced() -> Self {
        Self::new(PACED, Pinning::ProxyApart)
    }

    pub(crate) fn http2() -> Self {
        Self::new(HTTP2, Pinning::ProxyApart)
    }

    pub(crate) fn grpc() -> Self {
        Self::new(GRPC, Pinning::ProxyApart)
    }

    pub(crate) fn routes() -> Self {
        Self::new(ROUTES, Pinning::ProxyApart)
    }

    /// Whether it is measured in this mode.
    pub(crate) fn compares(&self, mode: Mode) -> bool {
        let by_routes = matches!(self.load, Load::Routes { .. });
        mode == Mode::Direct || matches!(mode, Mode::Route | Mode::Policies) == by_routes
    }

    /// A short name without spaces, for files and the command line.
    pub(crate) fn id(&self) -> String {
        let load = match self.load {
            Load::Hold { connections } => format!("hold-{connections}"),
            Load::PingPong { size, connections } => format!("ping-{size}x{connections}"),
            Load::Connect { .. } => "connect".to_owned(),
            Load::Bulk { direction: Direction::Up } => "bulk-up".to_owned(),
            Load::Bulk { direction: Direction::Down } => "bulk-down".to_owned(),
            Load::HoldHttp { connections } => format!("http-hold-{connections}"),
            Load::Http1 { connections } => format!("http1-{connections}"),
            Load::Paced { connections } => format!("http1-paced-{connections}"),
            Load::Http2 { streams } => format!("http2-{streams}"),
            Load::Grpc { streams } => format!("grpc-{streams}"),
            Load::Routes { connections } => format!("http1-routes-{connections}"),
        };
        let pinning = match self.pinning {
            Pinning::Free => "free",
            Pinning::One => "one",
            Pinning::Apart => "apart",
            Pinning::ProxyApart => "proxy",
        };
        format!("{load}-{pinning}")
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.load, self.pinning)
    }
}

impl Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold { connections } => write!(f, "{connections} idle connections"),
            Self::PingPong { size, connections } => {
                let connections = Count(*connections, "connection");
                match size {
                    0..1024 => write!(f, "ping-pong {size} B, {connections}"),
                    _ => write!(f, "ping-pong {} KiB, {connections}", size >> 10),
                }
            }
            Self::Connect { workers } => write!(f, "new connections, {}", Count(*workers, "worker")),
            Self::Bulk { direction: Direction::Up } => f.write_str("bulk from client to server"),
            Self::Bulk { direction: Direction::Down } => f.write_str("bulk from server to client"),
            Self::HoldHttp { connections } => write!(f, "HTTP/1.1, {connections} idle connections"),
            Self::Http1 { connections } => write!(f, "HTTP/1.1, {}", Count(*connections, "connection")),
            Self::Paced { connections } => {
                write!(f, "HTTP/1.1 at half of Envoy's rate, {}", Count(*connections, "connection"))
            }
            Self::Http2 { streams } => write!(f, "HTTP/2, {}", Count(*streams, "stream")),
            Self::Grpc { streams } => write!(f, "gRPC, {}", Count(*streams, "stream")),
            Self::Routes { connections } => {
                write!(f, "HTTP/1.1 by a route, {}", Count(*connections, "connection"))
            }
        }
    }
}

impl Display for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::One => "one core",
            Self::Apart => "client apart",
            Self::ProxyApart => "proxy apart",
        })
    }
}

struct Count(usize, &'static str);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_unique_and_quick_is_part_of_full() {
        let ids = |plan: Plan| -> Vec<String> { plan.cases.iter().map(Case::id).collect() };
        let full = ids(Plan::full());
        for ids in [full.clone(), ids(Plan::pods(false)), ids(Plan::http(false))] {
            let mut unique = ids.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), ids.len());
        }
        assert!(Plan::quick().cases.iter().all(|case| full.contains(&case.id())));
    }

    #[test]
    fn only_keeps_what_is_named() {
        let mut plan = Plan::full();
        plan.only(&["bulk-up".into(), "ping-64x1-one".into()]);
        let ids: Vec<String> = plan.cases.iter().map(Case::id).collect();
        assert_eq!(ids, ["ping-64x1-one", "bulk-up-free", "bulk-up-one", "bulk-up-apart"]);
    }

    #[test]
    fn a_rate_is_measured_for_who_needs_it() {
        let mut plan = Plan::http(true);
        plan.only(&["paced".into()]);
        assert_eq!(plan.cases, [Case::http1(), Case::paced()]);
    }

    #[test]
    fn routes_are_compared_with_each_other() {
        let modes = [Mode::Direct, Mode::Ebpf, Mode::Route, Mode::Policies, Mode::EnvoyIptables];
        let compared = |case: Case| modes.map(|mode| case.compares(mode));
        assert_eq!(compared(Case::routes()), [true, false, true, true, false]);
        assert_eq!(compared(Case::grpc()), [true, true, false, false, true]);
    }

    #[test]
    fn names_read_well() {
        assert_eq!(
            Case::ping_pong(LARGE, 1, Pinning::One).to_string(),
            "ping-pong 16 KiB, 1 connection, one core"
        );
    }
}
