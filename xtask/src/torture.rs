//! `cargo xtask torture`: the torture test for as long as one likes.

use crate::build;
use crate::util::{cargo, run as run_command};
use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long connections begin.
    #[arg(long, value_name = "N", default_value_t = 2)]
    minutes: u64,
    /// Same seed, same connections.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// `spec.interception.bypass` of the sidecar.
    #[arg(long, default_value = "full")]
    bypass: String,
}

/// Runs the scenarios of the tests, which make network namespaces and clean up, beside each other.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = build::run()?;
    let mut command = cargo();
    command.args(["test", "--release", "--package=sidecar-tests", "--test=privileged", "--"]);
    command.args(["torture::every_byte", "--nocapture"]).env("SIDECAR_BIN", binary);
    command.env("SIDECAR_TORTURE_SECONDS", (options.minutes * 60).to_string());
    command.env("SIDECAR_TORTURE_SEED", options.seed.to_string());
    command.env("SIDECAR_TORTURE_BYPASS", &options.bypass);
    run_command(&mut command)
}
