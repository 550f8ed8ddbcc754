//! A mode's own network namespace with its proxy, which stay through the whole run.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sidecar_tests::eventually;
use sidecar_tests::{
    Config, DEADLINE, Envoy, Finished, Init, Mode as Interception, Netns, Place, Program, Sidecar,
};
use tempfile::TempDir;

use crate::memory::Memory;
use crate::mode::Mode;
use crate::routes;
use crate::suite::Suite;
use crate::token::Token;

/// How long after a proxy's start it is looked at: what starting took has been given back then, as far as it is.
const REST: Duration = Duration::from_secs(2);

/// Where Envoy's administration page is, which is not captured.
const ENVOY_ADMIN: u16 = 15000;

/// A mode, ready to be measured. Dropping it undoes it.
pub(crate) struct Instance {
    pub(crate) mode: Mode,
    /// The proxy's memory before its first connection.
    pub(crate) idle: Memory,
    proxy: Proxy,
    // After the proxy, which is in it.
    netns: Netns,
}

enum Proxy {
    None,
    Sidecar {
        sidecar: Box<Sidecar>,
        /// Of its configuration.
        _directory: TempDir,
    },
    Envoy(Box<Peer>),
}

struct Peer {
    program: Program,
    init: Init,
    _directory: TempDir,
}

/// What a proxy has served since it started.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Served {
    pub(crate) connections: f64,
    /// Requests on them, where it knows requests.
    pub(crate) requests: f64,
    /// The program's payload, both ways.
    pub(crate) bytes: f64,
    /// The part of it that went past TCP.
    pub(crate) bypassed: f64,
}

impl Instance {
    /// Makes it.
    pub(crate) fn start(mode: Mode, suite: Suite, token: &Token) -> Result<Self> {
        let netns = Netns::new(mode.id());
        // A new connection a few thousand times a second: all ports, and no wait before one is used again.
        netns.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
        netns.sysctl("net/ipv4/tcp_max_tw_buckets", "16");
        let proxy = match mode {
            Mode::Direct => Proxy::None,
            Mode::Iptables => sidecar(&netns, mode, token, Interception::Iptables)?,
            Mode::Ebpf | Mode::EbpfToProxy | Mode::EbpfFull | Mode::Route | Mode::Policies => {
                sidecar(&netns, mode, token, Interception::Ebpf)?
            }
            Mode::EnvoyIptables => envoy(&netns, mode, suite, Interception::Iptables)?,
            Mode::EnvoyEbpf => envoy(&netns, mode, suite, Interception::Ebpf)?,
        };
        let mut instance = Self { mode, idle: Memory::default(), proxy, netns };
        #[allow(clippy::disallowed_methods, reason = "there is nothing to wait for but the time")]
        if instance.pid().is_some() {
            thread::sleep(REST);
        }
        instance.idle = instance.memory()?;
        if mode == Mode::Policies {
            instance.refuses_strangers()?;
        }
        Ok(instance)
    }

    /// Policies that hold for nothing would be measured as cheap ones.
    fn refuses_strangers(&self) -> Result<()> {
        let mut curl = self.place().command("curl");
        curl.args(["-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", routes::URL]);
        let status = Finished::of(&mut curl).success();
        ensure!(status == "401", "a request without a token is answered with {status}");
        Ok(())
    }

    /// Where client and server run.
    pub(crate) fn place(&self) -> Place {
        match &self.proxy {
            Proxy::None => self.netns.place(),
            Proxy::Sidecar { sidecar, .. } => sidecar.place(),
            Proxy::Envoy(peer) => peer.init.app(),
        }
    }

    /// The proxy's process, if there is one.
    pub(crate) fn pid(&mut self) -> Option<u32> {
        let pid = match &mut self.proxy {
            Proxy::None => return None,
            Proxy::Sidecar { sidecar, .. } => sidecar.program().pid(),
            Proxy::Envoy(peer) => peer.program.pid(),
        };
        u32::try_from(pid.as_raw()).ok()
    }

    /// The proxy's memory now; nothing without one.
    pub(crate) fn memory(&mut self) -> Result<Memory> {
        self.pid().map_or_else(|| Ok(Memory::default()), Memory::of)
    }

    /// What the proxy says it has served; None without one.
    pub(crate) fn served(&self) -> Result<Option<Served>> {
        match &self.proxy {
            Proxy::None => Ok(None),
            Proxy::Sidecar { sidecar, .. } => {
                let metrics = sidecar.ask("metrics", "/metrics", &[]).success();
                let armed = self.mode != Mode::Iptables;
                ensure!(
                    metrics.contains("sidecar_bpf_armed 1\n") == armed,
                    "{} is not what is armed",
                    self.mode
                );
                let by_route = matches!(self.mode, Mode::Route | Mode::Policies);
                Ok(Some(Served::of_sidecar(&metrics, if by_route { routes::LABEL } else { "" })))
            }
            Proxy::Envoy(_) => {
                let url =
                    format!("http://127.0.0.1:{ENVOY_ADMIN}/stats?format=json&filter=^(tcp|http).outbound");
                let mut curl = self.netns.place().command("curl");
                let stats = Finished::of(curl.args(["-gsS", "--fail", "--max-time", "10", &url])).success();
                Ok(Some(Served::of_envoy(&stats).context("Envoy's counters")?))
            }
        }
    }
}

/// Everything to loopback is captured, and nothing is logged.
fn config(mode: Mode, interception: Interception) -> Config {
    Config::new(interception)
        .with("interception.bypass", mode.bypass())
        .with("interception.outbound.captureLoopback", true)
        .with("interception.outbound.excludePorts", [ENVOY_ADMIN])
        .with("accessLog.format", "off")
}

fn sidecar(netns: &Netns, mode: Mode, token: &Token, interception: Interception) -> Result<Proxy> {
    let mut text = config(mode, interception).text();
    text.extend(routes::documents(mode, token).map(|documents| format!("---\n{documents}")));
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, text)?;
    Ok(Proxy::Sidecar { sidecar: Box::new(Sidecar::start_by(netns, &file)), _directory: directory })
}

/// Envoy as it runs in a mesh: behind what an init container armed, as a user of its own.
fn envoy(netns: &Netns, mode: Mode, suite: Suite, interception: Interception) -> Result<Proxy> {
    let init = Init::arm(netns, &config(mode, interception), &[]);
    let (directory, binary, file) = files_for_everyone(suite)?;
    let mut command = init.beside().as_uid(Init::PROXY).command(binary);
    command.args([
        "--concurrency",
        suite.envoy_threads(),
        "--log-level",
        "warn",
        "--disable-hot-restart",
        "--config-path",
    ]);
    let mut program = Program::start(command.arg(file));
    eventually(DEADLINE, "Envoy to listen", || {
        assert!(!program.has_ended(), "Envoy ended: {}", program.stderr());
        let mut sockets = netns.place().command("ss");
        let sockets = Finished::of(sockets.args(["-Hltn"])).success();
        sockets.contains("127.0.0.1:15001 ").then_some(())
    });
    Ok(Proxy::Envoy(Box::new(Peer { program, init, _directory: directory })))
}

/// Envoy and its configuration where any user can read them.
fn files_for_everyone(suite: Suite) -> Result<(TempDir, PathBuf, PathBuf)> {
    let directory = tempfile::tempdir()?;
    let [binary, config] = ["envoy", "envoy.yaml"].map(|name| directory.path().join(name));
    let original = Envoy::find().map_err(anyhow::Error::msg)?;
    std::fs::copy(&original, &binary).with_context(|| format!("copy {}", original.display()))?;
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(suite.envoy()), &config)?;
    for path in [directory.path(), &binary, &config] {
        std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    Ok((directory, binary, config))
}

// === impl Served ===

impl Served {
    /// From the text of the metrics endpoint; of requests, those whose labels have `route`.
    fn of_sidecar(metrics: &str, route: &str) -> Self {
        let sum = |name: &str, label: &str| -> f64 {
            let outbound = |rest: &str| rest.starts_with("{direction=\"outbound\"") && rest.contains(label);
            let samples = metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(outbound));
            samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let bytes = |label| {
            sum("sidecar_tcp_sent_bytes_total", label) + sum("sidecar_tcp_received_bytes_total", label)
        };
        Self {
            connections: sum("sidecar_tcp_connections_opened_total", ""),
            requests: sum("sidecar_requests_total", route),
            bytes: bytes(""),
            bypassed: bytes("path=\"bypass\""),
        }
    }

    /// From Envoy's administration page.
    fn of_envoy(stats: &str) -> Option<Self> {
        let stats: Value = serde_json::from_str(stats).ok()?;
        let value = |name: &str| -> Option<f64> {
            let is_it = |one: &&Value| {
                let layers = ["tcp.outbound.", "http.outbound."];
                layers
                    .iter()
                    .any(|layer| one["name"].as_str().and_then(|it| it.strip_prefix(layer)) == Some(name))
            };
            stats["stats"].as_array()?.iter().find(is_it)?["value"].as_f64()
        };
        let bytes = value("downstream_cx_rx_bytes_total")? + value("downstream_cx_tx_bytes_total")?;
        Some(Self {
            connections: value("downstream_cx_total")?,
            requests: value("downstream_rq_total").unwrap_or_default(),
            bytes,
            bypassed: 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_paths_are_added_up() {
        let metrics = r#"# HELP sidecar_tcp_sent_bytes Payload
sidecar_tcp_connections_opened_total{direction="inbound"} 3
sidecar_tcp_connections_opened_total{direction="outbound"} 5
sidecar_tcp_sent_bytes_total{direction="outbound",path="tcp"} 100
sidecar_tcp_sent_bytes_total{direction="outbound",path="bypass"} 200
sidecar_tcp_received_bytes_total{direction="outbound",path="bypass"} 700
"#;
        let served = Served::of_sidecar(metrics, "");
        let seen = [served.connections, served.bytes, served.bypassed].map(|value| value.round().to_string());
        assert_eq!(seen, ["5", "1000", "900"]);
    }

    #[test]
    fn requests_past_the_route_do_not_count() {
        let metrics = r#"sidecar_requests_total{direction="outbound",route="default/bench/0",code="200"} 3
sidecar_requests_total{direction="outbound",route="passthrough",code="200"} 4
"#;
        let seen = ["", routes::LABEL].map(|route| Served::of_sidecar(metrics, route).requests.to_string());
        assert_eq!(seen, ["7", "3"]);
    }

    #[test]
    fn envoys_counters_are_read_by_name() {
        let stats = r#"{"stats":[{"name":"tcp.outbound.downstream_cx_total","value":7},
            {"name":"tcp.outbound.downstream_cx_rx_bytes_total","value":1},
            {"name":"tcp.outbound.downstream_cx_tx_bytes_total","value":2}]}"#;
        let served = Served::of_envoy(stats).unwrap();
        assert_eq!([served.connections, served.bytes].map(|value| value.round().to_string()), ["7", "3"]);
        assert!(Served::of_envoy("{}").is_none());
    }
}
