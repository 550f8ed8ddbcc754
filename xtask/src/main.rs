//! `cargo xtask`: set-up, build, run, test and lint of the sidecar workspace.
#![allow(
    clippy::disallowed_methods,
    reason = "a build tool reads the environment and polls the processes it starts"
)]

mod bench;
mod build;
mod crds;
mod demo;
mod fuzz;
mod image;
mod kernels;
mod kubectl;
mod kubernetes_test;
mod lint;
mod packages;
mod run;
mod setup;
mod test;
mod tidy;
mod toolchain;
mod torture;
mod util;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Set-up, build, run, test and lint of the sidecar workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what builds the kernel half.
    Setup {
        /// Also what the tests start: servers, clients and tools.
        #[arg(long)]
        tests: bool,
        /// Also what `lint` needs.
        #[arg(long)]
        lint: bool,
    },
    /// Build target/release/sidecar.
    Build,
    /// Build, then run the demo, or `sidecar ARGS`.
    Run {
        /// End the demo after so many seconds rather than on Ctrl-C.
        #[arg(long, value_name = "N", conflicts_with = "args")]
        seconds: Option<u64>,
        /// Arguments of `sidecar`.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Run every test that this machine can run.
    Test {
        /// Boot other kernels and try the basics on each; ARGS are their versions.
        #[arg(long)]
        kernels: bool,
        /// Arguments of `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure every way of interception, interleaved in one run; results go to target/bench.
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the benchmark: http, pods, --quick, --peers, --rounds N, --only CASE...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build, then torture connections under the sidecar for a while, looking at every byte.
    Torture(torture::Options),
    /// Fuzz what reads the bytes of strangers: detection, framing, headers, paths, tokens, the configuration.
    Fuzz(fuzz::Options),
    /// Write the custom resource definitions of deploy/ anew, after a change of the configuration's types.
    Crds,
    /// Build a container image, without a container engine: target/image/sidecar-ARCH.tar.
    Image(image::Options),
    /// Run the scenarios of a real Kubernetes, on a cluster that is started for them.
    KubernetesTest(kubernetes_test::Options),
    /// Check formatting, lints, dependencies and house rules.
    Lint,
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            util::say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Setup { tests, lint } => {
            setup::run()?;
            if tests {
                setup::tests()?;
            }
            if lint {
                setup::lint()?;
            }
            Ok(())
        }
        Command::Build => build::run().map(drop),
        Command::Run { seconds, args } => run::run(seconds, &args),
        Command::Test { kernels: true, args } => kernels::run(&args),
        Command::Test { kernels: false, args } => test::run(&args),
        Command::Bench { args } => bench::run(&args),
        Command::Torture(options) => torture::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Crds => crds::run(),
        Command::Image(options) => image::run(&options).map(drop),
        Command::KubernetesTest(options) => kubernetes_test::run(&options),
        Command::Lint => lint::run(),
    }
}
