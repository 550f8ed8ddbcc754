//! `cargo xtask test`: every test that this machine can run.

use crate::util::{cargo, run as run_command, say};
use crate::{build, setup};
use anyhow::Result;
use std::env;
use std::ffi::OsString;

/// Runs `cargo test ARGS` over the workspace. The tests find the built binary in `SIDECAR_BIN`.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    let binary = build::run()?;
    if let Err(error) = setup::tests() {
        if env::var_os("REQUIRE_PRIVILEGED").is_some_and(|value| value == "1") {
            return Err(error);
        }
        say(format_args!("some tests will be skipped: {error:#}"));
    }
    // The kernel half has no tests of its own and does not build for this target.
    run_command(
        cargo().args(["test", "--workspace", "--exclude=sidecar-ebpf"]).args(args).env("SIDECAR_BIN", binary),
    )
}
