//! `sidecar proxy`: the proxy alone, without any privilege.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::pod_end;
use super::signals::{Hangups, Signals};
use crate::app::{App, Running};
use crate::bpf::bypass::Bypass;
use crate::bypass::Ladder;
use crate::config::{Config, Interception, Mode};
use crate::host::cgroup::Hierarchy;
use crate::host::seed;
use crate::instance::{self, InstanceName, PROXY_DIRECTORY, RUN_DIRECTORY};
use crate::kubernetes::annotations::Overrides;
use crate::net::sys;
use crate::observe::log::LogLevel;
use crate::pod::with_defaults;
use crate::reload::{Source, Watch};
use crate::under_agent::Channel;

/// Who arms the proxy's Pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum ArmedBy {
    /// `sidecar init`, before this proxy starts
    Init,
    /// The agent of the node, which finds this proxy when it listens
    Agent,
}

/// `sidecar proxy`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration: a file, or a directory of files. Without one, everything is passed through and measured.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The instance that `sidecar init` armed; by default the one of this network namespace
    #[arg(long)]
    name: Option<InstanceName>,
    /// Who arms this Pod. By default the agent, where this is a Pod and no instance is armed in its network namespace
    #[arg(long, value_name = "WHO")]
    armed_by: Option<ArmedBy>,
    /// Leave when the application's processes have ended, for a Job; its Pod needs `shareProcessNamespace: true`
    #[arg(long)]
    until_alone: bool,
    /// This Pod's uid: a proxy in a Pod that is told to end stays until the application has closed its sockets
    #[arg(long, env = "POD_UID", value_name = "UID", hide_env_values = true)]
    pod_uid: Option<String>,
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
    let by_agent = match args.armed_by {
        Some(who) => who == ArmedBy::Agent,
        None => directory.is_none() && args.pod_uid.is_some() && config.interception.mode == Mode::Ebpf,
    };
    if directory.is_none() && !by_agent && config.interception.mode != Mode::None {
        tracing::warn!("no instance is armed in this network namespace: is `sidecar init` to come?");
    }
    let mut app = App::bind(config, with_defaults(config.ports), &name, Hierarchy::visible().as_ref())?;
    if config.interception.mode == Mode::Ebpf {
        app.ask_for_counters()?;
    }
    if by_agent {
        app.under_agent(
            Channel::bind().context("listen for the agent: does another proxy run in this Pod?")?,
        );
        app.climb(Err("the agent has not armed this Pod".to_owned()));
    } else {
        let ladder = ladder(&config.interception, directory.as_deref());
        if let Err(reason) = &ladder
            && config.interception.insists_on_bypass()
        {
            tracing::warn!("the bypass is off: {reason}");
        }
        app.climb(ladder);
    }
    let place = directory.map(|directory| directory.join(PROXY_DIRECTORY));
    let running = app.serve(config, source, log_level, place.as_deref())?;
    until_it_may_leave(args, &running, &mut signals).await;
    running.finish(&mut signals).await;
    Ok(super::DONE)
}

/// What the administrator tells it counts at once; the end of the Pod, or of its application, as `pod_end` says.
async fn until_it_may_leave(args: &Args, running: &Running, signals: &mut Signals) {
    let alone = async {
        if args.until_alone {
            pod_end::alone(|| running.has_been_used()).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = signals.end() => {}
        () = running.told_to_quit() => return,
        () = alone => return,
    }
    if args.pod_uid.is_some() {
        tokio::select! {
            () = signals.end() => {}
            () = running.told_to_quit() => {}
            () = pod_end::application_gone() => {}
        }
    }
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
