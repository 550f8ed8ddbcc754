//! `sidecar run`: arm, proxy and CMD in one.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::signals::{Hangups, Signals};
use crate::app::App;
use crate::config::Config;
use crate::instance::{InstanceName, RUN_DIRECTORY};
use crate::kubernetes::annotations::Overrides;
use crate::observe::log::LogLevel;
use crate::reload::{Source, Watch};
use crate::setup::Setup;

/// `sidecar run`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration: a file, or a directory of files. Without one, everything is passed through and measured.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name by which `connections` and `detach` know this instance.
    #[arg(long)]
    name: Option<InstanceName>,
    /// Without CMD: the cgroup to arm, until SIGTERM. With CMD: the cgroup below which CMD's own is made.
    #[arg(long, value_name = "PATH", required_unless_present = "command")]
    cgroup: Option<PathBuf>,
    /// The program to run under the sidecar, and its arguments.
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Runs; returns the exit status, which is CMD's.
pub fn run(args: &Args, log_level: LogLevel) -> anyhow::Result<u8> {
    let (config, watch) = super::load_to_watch(args.config.as_deref(), &Overrides::default())?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => format!("run-{}", std::process::id()).parse()?,
    };
    super::block_on(serve(args, &config, watch, name, log_level))
}

async fn serve(
    args: &Args,
    config: &Config,
    watch: Option<Watch>,
    name: InstanceName,
    log_level: LogLevel,
) -> anyhow::Result<u8> {
    // Before anything is set up: from here on, a signal ends this process in order.
    let mut signals = Signals::new()?;
    let source = Source { watch, hangups: Hangups::new()? };
    let nofile = raise_open_files();
    let with_command = !args.command.is_empty();
    // Everything is undone as it is dropped.
    let mut setup = Setup::begin(Path::new(RUN_DIRECTORY), name, args.cgroup.as_deref(), with_command)?;
    setup.arm_proxy(config)?;
    let name = setup.instance().state.name.clone();
    let mut app = App::bind(config, config.ports, name.as_str(), Some(setup.hierarchy()))?;
    // CMD may be gone before anybody asks where it was.
    let app_cgroup = setup.app_cgroup();
    let shown = format!("/{}", app_cgroup.as_path().display());
    app.cgroups().remember(setup.hierarchy().id(&app_cgroup)?, shown);
    if let Some(armed) = setup.armed_mut() {
        let ladder = armed.prove_bypass(&config.interception)?;
        if let Err(reason) = &ladder {
            tracing::info!("the bypass is off: {reason}");
        }
        app.climb(ladder);
        app.observe(armed)?;
    }
    setup.arm_programs(config, &app.ports())?;
    setup.instance_mut().state.ports = app.ports();
    setup.instance().save()?;
    let running = app.serve(config, source, log_level, Some(setup.instance().directory()))?;
    // Ends with the runtime.
    if let Some(seeded) = setup.take_seeded() {
        tokio::spawn(seeded.look_after());
    }
    let status = match args.command.as_slice() {
        [] => {
            running.until_told(&mut signals).await;
            0
        }
        command => {
            let cgroup_procs = setup.hierarchy().directory(&app_cgroup).join("cgroup.procs");
            let child = start(command, &cgroup_procs, nofile)?;
            let status = wait(child, &mut signals, &running).await?;
            setup.stand_down();
            running.application_gone();
            code(status)
        }
    };
    running.finish(&mut signals).await;
    Ok(status)
}

/// Starts CMD by way of `sidecar exec`, which enters the cgroup first.
fn start(command: &[OsString], cgroup_procs: &Path, nofile: u64) -> anyhow::Result<Child> {
    Command::new("/proc/self/exe")
        .arg("exec")
        .arg("--cgroup-procs")
        .arg(cgroup_procs)
        .arg("--nofile")
        .arg(nofile.to_string())
        .arg("--")
        .args(command)
        .kill_on_drop(true)
        .spawn()
        .context("start CMD")
}

/// Waits for CMD and passes signals on to it. After one that asks it to end, it has the drain time to do so.
async fn wait(
    mut child: Child,
    signals: &mut Signals,
    running: &crate::app::Running,
) -> anyhow::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let mut deadline = None;
    loop {
        let overdue = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            status = child.wait() => return status.context("wait for CMD"),
            signal = signals.next() => signal,
            () = running.told_to_quit() => Signal::SIGTERM,
            () = overdue => {
                deadline = None;
                Signal::SIGKILL
            }
        };
        if let Some(pid) = pid {
            // It may have ended just now.
            let _ = kill(pid, signal);
        }
        if matches!(signal, Signal::SIGTERM | Signal::SIGINT) && deadline.is_none() {
            deadline = Some(tokio::time::Instant::now() + running.drain_time());
        }
    }
}

/// CMD's exit status; 128 and the signal's number if it was killed, as shells say it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}

/// A connection takes two file descriptors: the soft limit goes up to the hard one. Returns what it was.
fn raise_open_files() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
            soft
        }
        Err(_) => 1024,
    }
}
