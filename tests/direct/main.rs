//! Tests that need no privilege: the command line and what it says of bad input.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod decisions;
mod deploy;
mod examples;
mod inject;
mod logs;
mod proxy;
mod usage;
mod validate;
mod webhook;

use sidecar_tests::{Finished, Place, cli};

/// Runs `sidecar ARGS` with no capability, so that a mistake can arm nothing.
fn sidecar(args: &[&str]) -> Finished {
    cli(&Place::default().without_capabilities(), args)
}
