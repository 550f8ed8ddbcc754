//! `cargo xtask bench`: builds what is measured and what measures, and runs that.

use crate::util::{cargo, run as run_command, workspace};
use crate::{build, setup};
use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs `sidecar-bench ARGS` in our place.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    if !geteuid().is_root() {
        bail!("the benchmark makes network namespaces: run `cargo xtask bench` as root");
    }
    let binary = build::run()?;
    run_command(cargo().args(["build", "--release", "--package=sidecar-bench"]))?;
    if args.iter().any(|arg| arg == "--peers") && env::var_os("SIDECAR_ENVOY").is_none() {
        setup::envoy()?;
    }
    let bench = binary.with_file_name("sidecar-bench");
    let out = binary.parent().and_then(|release| release.parent()).unwrap_or(workspace()).join("bench");
    let error = Command::new(&bench).arg("--out").arg(out).args(args).env("SIDECAR_BIN", &binary).exec();
    Err(error).with_context(|| format!("cannot start {}", bench.display()))
}
