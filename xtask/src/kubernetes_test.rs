//! `cargo xtask kubernetes-test`: the scenarios of tests/kubernetes on a real cluster.
//!
//! A script keeps the cluster: `SCRIPT up` starts one node, `SCRIPT exec -- CMD` runs CMD on it with kubectl and a
//! kubeconfig of an administrator, `SCRIPT image TAR` imports an image, `SCRIPT down` removes everything. It is not part of
//! this repository.

use crate::image::{self, Arch};
use crate::util::{cargo, run as run_command, run_shown, say, workspace};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How many scenarios run at once: each waits most of the time for the kubelet.
const AT_ONCE: &str = "3";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// An image without optimisation, which is built sooner.
    #[arg(long)]
    debug: bool,
    /// Measure what arming costs, instead of the scenarios.
    #[arg(long)]
    measure: bool,
    /// An image of another version, named localhost/sidecar:before, that a running installation is upgraded from.
    #[arg(long, value_name = "ARCHIVE")]
    upgrade_from: Option<PathBuf>,
    /// Use the cluster that is up, and leave it up.
    #[arg(long)]
    keep: bool,
    /// Scenarios whose names hold one of these; all without.
    filter: Vec<String>,
}

/// Builds the image, starts a cluster, runs the scenarios, and removes the cluster.
pub(crate) fn run(options: &Options) -> Result<()> {
    let script = script()?;
    let (program, archive) = image::build(Arch::host(), "localhost/sidecar:dev", options.debug)?;
    let before = programs()?;
    let cluster = Cluster::up(&script, options.keep)?;
    run_command(Command::new(&script).arg("image").arg(&archive))?;
    let mut command = cargo();
    command.args(["test", "--package=sidecar-tests", "--test=kubernetes", "--"]);
    if options.measure {
        command.args(["--ignored", "--nocapture", "--test-threads=1"]);
    } else {
        command.arg(format!("--test-threads={AT_ONCE}"));
    }
    command.args(&options.filter);
    command.env("SIDECAR_BIN", program).env("SIDECAR_KUBERNETES_SH", &script);
    if let Some(archive) = &options.upgrade_from {
        run_command(Command::new(&script).arg("image").arg(archive))?;
        command.env("SIDECAR_UPGRADE_FROM", "localhost/sidecar:before");
    }
    let ran = run_command(&mut command);
    let stays = cluster.keep;
    drop(cluster);
    ran?;
    if stays { Ok(()) } else { nothing_is_left(&before) }
}

/// The kernel's programs of ours, by number.
fn programs() -> Result<BTreeSet<String>> {
    let shown = Command::new("bpftool").args(["prog", "show"]).output().context("bpftool")?;
    ensure!(shown.status.success(), "bpftool prog show: {}", String::from_utf8_lossy(&shown.stderr));
    let text = String::from_utf8_lossy(&shown.stdout);
    let ours = text.lines().filter(|line| line.contains(" name sidecar_"));
    Ok(ours.filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect())
}

/// The kernel takes what is detached some moments later.
fn nothing_is_left(before: &BTreeSet<String>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left: Vec<_> = programs()?.difference(before).cloned().collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "left on this machine: BPF programs {}", left.join(", "));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A cluster that is up; it goes down with this.
struct Cluster<'a> {
    script: &'a Path,
    keep: bool,
}

impl<'a> Cluster<'a> {
    fn up(script: &'a Path, keep: bool) -> Result<Self> {
        let is_up =
            || Command::new(script).args(["exec", "--", "true"]).output().is_ok_and(|o| o.status.success());
        if !(keep && is_up()) {
            run_shown(Command::new(script).arg("up"))?;
        }
        Ok(Self { script, keep })
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = run_shown(Command::new(self.script).arg("down"))
        {
            say(format_args!("the cluster stays: {error:#}"));
        }
    }
}

fn script() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SIDECAR_KUBERNETES_SH").map(PathBuf::from) {
        let absolute = path.canonicalize();
        return absolute.with_context(|| format!("SIDECAR_KUBERNETES_SH: no script at {}", path.display()));
    }
    let beside = workspace().join("../shared/lab/kubernetes.sh");
    beside.canonicalize().context(
        "no script that keeps a cluster: set SIDECAR_KUBERNETES_SH to one (xtask/src/kubernetes_test.rs says what it must do)",
    )
}
