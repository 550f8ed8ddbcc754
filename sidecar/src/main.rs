//! The `sidecar` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sidecar::cli::main().into()
}
