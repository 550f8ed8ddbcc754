//! What made others give up bypasses like ours: a scenario for each hazard, by its number in `docs/bypass.md`, and for the
//! ladder that keeps programs out of them. Programs are `programs/bypass.py`, which checks every byte at both ends of a
//! connection; a wrong one, a hang or a wrong error ends it.

/// Wraps a scenario in one `#[test]` for each level of the bypass: `in_levels!(waits: full, to_proxy)` runs
/// `fn waits(level: &str)` as the tests `waits::full` and `waits::to_proxy`.
macro_rules! in_levels {
    ($scenario:ident: $($level:ident),+) => {
        mod $scenario {
            $(
                #[test]
                fn $level() {
                    sidecar_tests::require!(root);
                    super::$scenario(&stringify!($level).replace('_', "-"));
                }
            )+
        }
    };
}

mod keys;
mod ladder;
mod lifetimes;
mod order;
mod readers;
mod same_node;
mod unprivileged;

use serde_json::Value;
use sidecar_tests::{Config, Connection, Mode, Netns, Probe, Sidecar};

/// Where programs here listen, on loopback.
const PORT: &str = "9000";

/// A program whose connections go from itself to itself, by way of the proxy. Fields are dropped in order.
struct Run {
    program: Probe,
    sidecar: Sidecar,
    netns: Netns,
}

/// What the proxy captures also on loopback.
fn config(level: &str) -> Config {
    Config::new(Mode::Ebpf).bypass(level).with("interception.outbound.captureLoopback", true)
}

impl Run {
    /// Until the program has said what it saw, with its last connection open.
    #[track_caller]
    fn at(level: &str, args: &[&str]) -> Self {
        Self::with(&config(level), args)
    }

    #[track_caller]
    fn with(config: &Config, args: &[&str]) -> Self {
        let netns = Netns::new("hazard");
        let sidecar = Sidecar::start(&netns, config);
        let program = program(&sidecar, args);
        Self { program, sidecar, netns }
    }

    /// The program's hop.
    #[track_caller]
    fn hop(&self) -> Hop {
        Hop::of(&self.sidecar)
    }

    #[track_caller]
    fn seen(&self, name: &str) -> u64 {
        number(self.program.seen(), name)
    }
}

/// Starts `bypass.py COMMAND PORT OPTIONS` under interception.
#[track_caller]
fn program(sidecar: &Sidecar, args: &[&str]) -> Probe {
    let [command, options @ ..] = args else { panic!("a command") };
    Probe::hold_both_ends(&sidecar.place(), &[&[*command, PORT], options].concat())
}

/// Bytes redirected on all hops.
#[track_caller]
fn redirected_in_all(sidecar: &Sidecar) -> u64 {
    sidecar.metric("sidecar_bpf_redirected_bytes_total")
}

/// Bytes of outbound connections, `sent` or `received`, that went by `bypass` or `tcp`.
#[track_caller]
fn by_path(sidecar: &Sidecar, way: &str, path: &str) -> u64 {
    sidecar.metric(&format!(r#"sidecar_tcp_{way}_bytes_total{{direction="outbound",path="{path}"}}"#))
}

#[track_caller]
fn number(seen: &Value, name: &str) -> u64 {
    seen[name].as_u64().unwrap_or_else(|| panic!("no {name} in {seen}"))
}

/// What the proxy says of a program's hop.
struct Hop(Connection);

impl Hop {
    #[track_caller]
    fn of(sidecar: &Sidecar) -> Self {
        Self(sidecar.connection("outbound", &crate::at("127.0.0.1", 9000)))
    }

    /// Bytes redirected: from the program, to the program.
    fn redirected(&self) -> (u64, u64) {
        (self.0.number("bypassBytesSent"), self.0.number("bypassBytesReceived"))
    }

    /// Messages that went by TCP for this reason.
    fn by_tcp(&self, reason: &str) -> u64 {
        self.0.field("tcpFallbacks")[reason].as_u64().unwrap_or_default()
    }

    /// The bytes took the way that this level promises to a program that earned it.
    #[track_caller]
    fn goes_by(&self, level: &str) {
        let (sent, received) = self.redirected();
        let kept = match level {
            "off" => sent == 0 && received == 0,
            "to-proxy" => sent > 0 && received == 0,
            _ => sent > 0 && received > 0,
        };
        assert!(kept, "{level}: {:?}", self.0);
        assert_eq!(self.0.text("bypass"), if level == "off" { "off" } else { "earned" }, "{:?}", self.0);
    }

    /// No byte was redirected, for this reason.
    #[track_caller]
    fn kept_out(&self, standing: &str, reason: &str) {
        assert_eq!(self.0.text("bypass"), standing, "{:?}", self.0);
        assert!(self.0.text("bypassReason").contains(reason), "{:?}", self.0);
        assert_eq!(self.redirected(), (0, 0), "{:?}", self.0);
        assert_eq!((self.0.number("bypassMessages"), self.0.text("path")), (0, "tcp"), "{:?}", self.0);
    }
}
