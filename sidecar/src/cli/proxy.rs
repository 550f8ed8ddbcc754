//! `sidecar proxy`: the proxy alone, without any privilege.

use std::path::{Path, PathBuf};

use super::signals::{Hangups, Signals};
use crate::app::App;
use crate::bpf::bypass::Bypass;
use crate::bypass::Ladder;
use crate::config::{Config, Interception, Mode, Ports};
use crate::host::cgroup::Hierarchy;
use crate::host::seed;
use crate::instance::{self, InstanceName, PROXY_DIRECTORY, RUN_DIRECTORY};
use crate::kubernetes::annotations::Overrides;
use crate::net::sys;
use crate::observe::log::LogLevel;
use crate::reload::{Source, Watch};

/// Istio's ports.
const PORTS: Ports = Ports {
    outbound: Some(15001),
    inbound: Some(15006),
    admin: Some(15000),
    metrics: Some(15020),
    health: Some(15021),
};

/// `sidecar proxy`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration: a file, or a directory of files. Without one, everything is passed through and measured.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The instance that `sidecar init` armed; by default the one of this network namespace
    #[arg(long)]
    name: Option<InstanceName>,
    #[command(flatten)]
    overrides: Overrides,
}

/// Serves until SIGTERM.
pub fn run(args: &Args, log_level: LogLevel) -> anyhow::Result<u8> {
    let (config, watch) = super::load_to_watch(args.config.as_deref(), &args.overrides)?;
    super::block_on(serve(args, &config, watch, log_level))
}

async fn serve(
    args: &Args,
    config: &Config,
    watch: Option<Watch>,
    log_level: LogLevel,
) -> anyhow::Result<u8> {
    let mut signals = Signals::new()?;
    let source = Source { watch, hangups: Hangups::new()? };
    let directory = directory(args.name.as_ref());
    let name = directory.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| format!("proxy-{}", std::process::id()));
    if directory.is_none() && config.interception.mode != Mode::None {
        tracing::warn!("no instance is armed in this network namespace: is `sidecar init` to come?");
    }
    let mut app = App::bind(config, with_defaults(config.ports), &name, Hierarchy::visible().as_ref())?;
    let ladder = ladder(&config.interception, directory.as_deref());
    if let Err(reason) = &ladder
        && config.interception.insists_on_bypass()
    {
        tracing::warn!("the bypass is off: {reason}");
    }
    app.climb(ladder);
    let place = directory.map(|directory| directory.join(PROXY_DIRECTORY));
    let running = app.serve(config, source, log_level, place.as_deref())?;
    running.until_told(&mut signals).await;
    running.finish(&mut signals).await;
    Ok(super::DONE)
}

/// The bypass that `sidecar init` pinned, or why there is none.
fn ladder(interception: &Interception, directory: Option<&Path>) -> Result<Ladder, String> {
    if !interception.wants_bypass() {
        return Err("by configuration".to_owned());
    }
    let directory = directory.ok_or("no instance is armed in this network namespace")?;
    let state = instance::read(directory).map_err(|error| error.to_string())?;
    if let Some(reason) = state.no_bypass {
        return Err(reason);
    }
    let pins = state.pins.ok_or("`sidecar init` pinned nothing")?;
    let kernel = sys::netns_cookie().and_then(|netns| Bypass::open(&pins, netns));
    let kernel =
        kernel.map_err(|error| format!("what is pinned in {} cannot be used: {error}", pins.display()))?;
    Ok(Ladder::new(kernel, interception))
}

/// Where the configuration fixes no port, Istio's.
pub fn with_defaults(ports: Ports) -> Ports {
    Ports {
        outbound: ports.outbound.or(PORTS.outbound),
        inbound: ports.inbound.or(PORTS.inbound),
        admin: ports.admin.or(PORTS.admin),
        metrics: ports.metrics.or(PORTS.metrics),
        health: ports.health.or(PORTS.health),
    }
}

/// The directory of the instance that serves this network namespace, if `sidecar init` made one.
fn directory(name: Option<&InstanceName>) -> Option<PathBuf> {
    if let Some(name) = name {
        return Some(Path::new(RUN_DIRECTORY).join(name.as_str())).filter(|path| path.is_dir());
    }
    let netns = seed::own_netns()?;
    instance::directories(Path::new(RUN_DIRECTORY)).into_iter().find(|directory| {
        instance::read(directory)
            .is_ok_and(|state| state.netns == netns && state.owner == instance::Owner::Nobody)
    })
}
