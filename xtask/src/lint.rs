//! `cargo xtask lint`: formatting, lints, dependencies and house rules.

use crate::toolchain::Toolchain;
use crate::util::{cargo, run as run_command, say, tool, workspace};
use crate::{setup, tidy};
use anyhow::Result;
use std::env::consts::ARCH;
use std::process::Command;

/// Runs every check; the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    tidy::run()?;
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    let toolchain = setup::kernel_half()?;
    setup::libraries()?;
    let clippy = ["clippy", "--workspace", "--exclude=sidecar-ebpf", "--all-targets", "--", "-Dwarnings"];
    run_command(cargo().args(clippy))?;
    run_command(&mut kernel_half(&toolchain))?;
    setup::lint()?;
    let deny = ["check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    run_command(Command::new(tool("cargo-deny")).current_dir(workspace()).args(deny))
}

/// Clippy on the kernel half where its compiler has one; else what the compiler itself warns of.
fn kernel_half(toolchain: &Toolchain) -> Command {
    let directory = workspace().join("target/ebpf-lint");
    let driver = toolchain.compiler.rustc.with_file_name("clippy-driver");
    let mut command = toolchain.cargo("check", &directory, ARCH);
    if driver.exists() {
        // What `cargo clippy` sets; calling it would pick rustup's clippy by PATH.
        command.env("RUSTC_WORKSPACE_WRAPPER", driver).env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
    } else {
        say(format_args!("no clippy beside {}: only checking", toolchain.compiler.rustc.display()));
        command.env("CARGO_BUILD_WARNINGS", "deny").arg("-Zwarnings");
    }
    command.current_dir(workspace());
    command
}
