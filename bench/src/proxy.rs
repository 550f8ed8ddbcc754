//! A mode's proxy, at one end of the way.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sidecar_tests::eventually;
use sidecar_tests::{
    Config, DEADLINE, Envoy, Finished, Init, Mode as Interception, Netns, Place, Program, Sidecar,
};
use tempfile::TempDir;

use crate::mode::Mode;
use crate::routes;
use crate::served::{Served, Side};
use crate::suite::Suite;
use crate::token::Token;

/// Where Envoy's administration page is, which is not captured.
const ENVOY_ADMIN: u16 = 15000;

/// A proxy, if the mode has one, with what hands it the traffic. Dropping it undoes it.
pub(crate) enum Proxy {
    None,
    Sidecar {
        sidecar: Box<Sidecar>,
        /// Of its configuration.
        _directory: TempDir,
    },
    Envoy(Box<Peer>),
}

/// Another project's proxy, behind what `sidecar init` armed.
pub(crate) struct Peer {
    program: Program,
    init: Init,
    _directory: TempDir,
}

impl Proxy {
    /// Starts it from `place`, which is in `netns`.
    pub(crate) fn start(
        place: &Place,
        netns: &Netns,
        mode: Mode,
        suite: Suite,
        token: &Token,
    ) -> Result<Self> {
        match mode {
            Mode::Direct => Ok(Self::None),
            Mode::EnvoyIptables | Mode::EnvoyEbpf => envoy(place, netns, mode, suite),
            _ => sidecar(place, netns, mode, token),
        }
    }

    /// Where its programs run.
    pub(crate) fn place(&self, netns: &Netns) -> Place {
        match self {
            Self::None => netns.place(),
            Self::Sidecar { sidecar, .. } => sidecar.place(),
            Self::Envoy(peer) => peer.init.app(),
        }
    }

    /// Its process, if there is one.
    pub(crate) fn pid(&mut self) -> Option<u32> {
        let pid = match self {
            Self::None => return None,
            Self::Sidecar { sidecar, .. } => sidecar.program().pid(),
            Self::Envoy(peer) => peer.program.pid(),
        };
        u32::try_from(pid.as_raw()).ok()
    }

    /// What it says it has served; None without one.
    pub(crate) fn served(&self, netns: &Netns, mode: Mode, side: Side) -> Result<Option<Served>> {
        match self {
            Self::None => Ok(None),
            Self::Sidecar { sidecar, .. } => {
                let metrics = sidecar.ask("metrics", "/metrics", &[]).success();
                let armed = mode != Mode::Iptables;
                ensure!(metrics.contains("sidecar_bpf_armed 1\n") == armed, "{mode} is not what is armed");
                let by_route = matches!(mode, Mode::Route | Mode::Policies);
                let route = if by_route { routes::LABEL } else { "" };
                Ok(Some(Served::of_sidecar(&metrics, side, route)))
            }
            Self::Envoy(_) => {
                let url = format!(
                    "http://127.0.0.1:{ENVOY_ADMIN}/stats?format=json&filter=^(tcp|http).(out|in)bound"
                );
                let mut curl = netns.place().command("curl");
                let stats = Finished::of(curl.args(["-gsS", "--fail", "--max-time", "10", &url])).success();
                Ok(Some(Served::of_envoy(&stats, side).context("Envoy's counters")?))
            }
        }
    }
}

/// Everything to loopback is captured, and nothing is logged.
fn config(mode: Mode) -> Config {
    let interception = match mode {
        Mode::Iptables | Mode::EnvoyIptables => Interception::Iptables,
        _ => Interception::Ebpf,
    };
    Config::new(interception)
        .with("interception.bypass", mode.bypass())
        .with("interception.bypassSameNode", mode == Mode::EbpfSameNode)
        .with("interception.outbound.captureLoopback", true)
        .with("interception.outbound.excludePorts", [ENVOY_ADMIN])
        .with("accessLog.format", "off")
}

fn sidecar(place: &Place, netns: &Netns, mode: Mode, token: &Token) -> Result<Proxy> {
    let mut text = config(mode).text();
    text.extend(routes::documents(mode, token).map(|documents| format!("---\n{documents}")));
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, text)?;
    let sidecar = Box::new(Sidecar::start_by(place, netns, &file));
    Ok(Proxy::Sidecar { sidecar, _directory: directory })
}

/// Envoy as it runs in a mesh: behind what an init container armed, as a user of its own.
fn envoy(place: &Place, netns: &Netns, mode: Mode, suite: Suite) -> Result<Proxy> {
    let init = Init::arm_at(place.clone(), &config(mode), &[]);
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
