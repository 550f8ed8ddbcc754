//! `sidecar detach`: undo what `init` armed, or what a killed `run` left behind.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::collect;
use crate::detach::undo;
use crate::instance::{self, InstanceName, Owner, RUN_DIRECTORY, State};

/// How long a `sidecar run` that was asked to end has for it: CMD and its connections have a drain time each.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(20);

/// `sidecar detach`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The instance; one that still runs is asked to end. By default all that nobody looks after any more
    name: Option<InstanceName>,
    /// Remove the pins of Pods that are gone from this node, and nothing else
    #[arg(long, conflicts_with = "name")]
    gone: bool,
}

/// Undoes; prints a line for each instance.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let run_directory = Path::new(RUN_DIRECTORY);
    if args.gone {
        return Ok(gone(run_directory));
    }
    let mut status = super::DONE;
    instance::remove_abandoned_claims(run_directory);
    for directory in instance::directories(run_directory) {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if args.name.as_ref().is_some_and(|wanted| wanted.as_str() != name) {
            continue;
        }
        let done = match instance::read(&directory) {
            Ok(state) => one(&directory, &state, args.name.is_some()),
            // It ended just now.
            Err(_) if !directory.exists() => Ok(None),
            Err(error) => Err(error.into()),
        };
        match done {
            Ok(Some(what)) => println!("{name}: {what}"),
            Ok(None) => {}
            Err(error) => {
                eprintln!("sidecar: {name}: {error:#}");
                status = super::FAILED;
            }
        }
        if args.name.is_some() {
            return Ok(status);
        }
    }
    match &args.name {
        Some(name) => bail!("no instance {name} below {RUN_DIRECTORY}"),
        None => Ok(status),
    }
}

fn gone(run_directory: &Path) -> u8 {
    let mut status = super::DONE;
    for (name, removed) in collect::gone(run_directory, |_| false) {
        match removed {
            Ok(()) => println!("{name}: removed"),
            Err(error) => {
                eprintln!("sidecar: {name}: {error}");
                status = super::FAILED;
            }
        }
    }
    status
}

/// What was done; `None`: it is looked after.
fn one(directory: &Path, state: &State, named: bool) -> anyhow::Result<Option<&'static str>> {
    if state.owner == Owner::Process && state.is_alive() {
        if !named {
            return Ok(None);
        }
        kill(Pid::from_raw(state.pid), Signal::SIGTERM).context("ask it to end")?;
        let deadline = Instant::now() + PATIENCE;
        while directory.exists() {
            if Instant::now() > deadline {
                bail!("process {} does not end", state.pid);
            }
            pause();
        }
        return Ok(Some("ended"));
    }
    // The agent looks after its own, also where it is just being replaced.
    if state.owner == Owner::Agent && !named {
        return Ok(None);
    }
    undo(directory, state)?;
    Ok(Some("detached"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the other process is not our child: there is nothing to wait on"
)]
fn pause() {
    std::thread::sleep(POLL);
}
