//! `cargo xtask run`: the demo, or `sidecar` with arguments.

use crate::{build, demo, setup};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs `sidecar ARGS` in our place; without arguments, the demo.
pub(crate) fn run(seconds: Option<u64>, args: &[OsString]) -> Result<()> {
    let binary = build::run()?;
    if args.is_empty() {
        setup::demo()?;
        return demo::run(&binary, seconds);
    }
    let error = Command::new(&binary).args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}
