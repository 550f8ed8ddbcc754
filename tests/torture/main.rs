//! Thousands of connections whose ends behave in every way that a proxy or the bypass could get wrong, and whose every
//! byte says where it belongs. What happens on a connection follows from a seed; see `plan.rs`.
//!
//! It starts its server as a process of its own and prints a summary as one JSON object. Exit status 1 is a failure: a
//! byte that was lost, repeated, moved or changed, an error that the plan has no place for, or a hang.

mod crowd;
mod drive;
mod endpoint;
mod fault;
mod plan;
mod random;
mod receive;
mod run;
mod send;
mod serve;
mod stall;
mod stamp;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run both sides.
    Run(run::Options),
    /// The server of a run, until its standard input ends.
    Serve(serve::Options),
    /// Connections whose readers stop, and go on later.
    Stall(stall::Options),
}

/// How long an end may see nothing move before it hangs.
fn patience(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|error| format!("{error}"))
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Serve(options) => serve::serve(&options).map(|()| true),
        Command::Stall(options) => stall::stall(&options).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "torture: {error}");
            ExitCode::FAILURE
        }
    }
}
