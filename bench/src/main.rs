//! The benchmark of sidecar: `cargo xtask bench`. docs/benchmarks.md says what it measures and how.

mod affinity;
mod bars;
mod case;
mod charts;
mod client;
mod cpu;
mod grpc;
mod http1;
mod http2;
mod instance;
mod machine;
mod measure;
mod memory;
mod metric;
mod mode;
mod proxy;
mod report;
mod results;
mod routes;
mod run;
mod served;
mod server;
mod stats;
mod suite;
mod token;
mod window;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask bench",
    about = "Measure every way of interception, interleaved in one run"
)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    run: run::Args,
}

/// What this program is within a run.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Client(client::Args),
    #[command(hide = true)]
    Server(server::Args),
}

fn main() -> ExitCode {
    match dispatch(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sidecar-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<()> {
    // A thousand connections; what is started inherits it.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    match &arguments.role {
        None => run::run(&arguments.run),
        Some(Role::Client(args)) => client::run(args),
        Some(Role::Server(args)) => server::run(args),
    }
}
