//! The subcommands, one a file.

pub mod agent;
pub mod check;
pub mod connections;
pub mod detach;
pub mod exec;
pub mod init;
pub mod inject;
pub mod logs;
pub mod pod_end;
pub mod proxy;
pub mod run;
pub mod signals;
pub mod validate;
pub mod webhook;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigErrors, Files};
use crate::instance::RUN_DIRECTORY;
use crate::kubernetes::annotations::Overrides;
use crate::observe::log::{self, LogFormat};
use crate::reload::Watch;

/// Done.
const DONE: u8 = 0;
/// Refused or failed.
const FAILED: u8 = 1;
/// A configuration that is not one (`EX_USAGE` of sysexits(3) is what linkerd2-proxy and others exit with).
const BAD_CONFIG: u8 = 64;

/// Intercepts a program's TCP connections with eBPF and hands them to a proxy
#[derive(Parser, Debug)]
#[command(name = "sidecar", version, disable_version_flag = true, max_term_width = 100)]
pub struct Cli {
    /// The log's level on stderr: off, error, warn, info, debug, trace, or a list like `info,sidecar::net=debug`
    #[arg(long, global = true, env = "SIDECAR_LOG", default_value = "warn", value_name = "LEVEL")]
    log: String,
    /// The log's format
    #[arg(long, global = true, env = "SIDECAR_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a program under the sidecar, or arm a cgroup until SIGTERM
    Run(run::Args),
    /// Serve as the proxy alone; needs no privilege
    Proxy(proxy::Args),
    /// Arm this Pod and exit; `sidecar proxy` then serves it
    Init(init::Args),
    /// Put the sidecar into Kubernetes manifests
    Inject(inject::Args),
    /// Put the sidecar into new Pods, as an admission webhook of Kubernetes
    Webhook(webhook::Args),
    /// Arm the Pods of a Kubernetes node; what is armed stays when it ends
    Agent(agent::Args),
    /// Undo what `init`, or a killed `run`, left armed
    Detach(detach::Args),
    /// Follow files and write their lines to standard output or a receiver of OTLP
    Logs(logs::Args),
    /// Show every live connection
    Connections(connections::Args),
    /// Tell whether this kernel, cgroup and capability set can do it
    Check(check::Args),
    /// Check configuration files
    Validate {
        /// Files or directories
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the version
    Version,
    #[command(hide = true)]
    Exec(exec::Args),
}

/// Does what the command line says; returns the exit status.
pub fn main() -> u8 {
    let cli = Cli::parse();
    let log_level = match log::start(&cli.log, cli.log_format) {
        Ok(level) => level,
        Err(error) => {
            eprintln!("sidecar: --log: {error}");
            return 2;
        }
    };
    let result = match cli.command {
        Command::Run(args) => run::run(&args, log_level),
        Command::Proxy(args) => proxy::run(&args, log_level),
        Command::Init(args) => init::run(&args),
        Command::Inject(args) => inject::run(&args),
        Command::Webhook(args) => webhook::run(args),
        Command::Agent(args) => agent::run(&args),
        Command::Logs(args) => logs::run(args),
        Command::Detach(args) => detach::run(&args),
        Command::Connections(args) => {
            block_on(connections::run(args, Path::new(RUN_DIRECTORY))).map(|()| DONE)
        }
        Command::Check(args) => check::run(&args),
        Command::Validate { files } => Ok(validate::run(&files)),
        Command::Version => {
            println!("sidecar {}", env!("CARGO_PKG_VERSION"));
            Ok(DONE)
        }
        Command::Exec(args) => exec::run(&args),
    };
    result.unwrap_or_else(|error| {
        if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
            eprintln!("{errors}");
            return BAD_CONFIG;
        }
        eprintln!("sidecar: {error:#}");
        FAILED
    })
}

/// The configuration of a file or directory; without one, the defaults; with what the command line says instead.
fn load(path: Option<&Path>, overrides: &Overrides) -> anyhow::Result<Config> {
    load_to_watch(path, overrides).map(|(config, _)| config)
}

/// Likewise, and what notices later versions of it.
fn load_to_watch(path: Option<&Path>, overrides: &Overrides) -> anyhow::Result<(Config, Option<Watch>)> {
    let Some(path) = path else {
        let mut config = Config::default();
        overrides.apply(&mut config.interception);
        return Ok((config, None));
    };
    let files = Files::read(path).overridden(overrides.clone());
    let watch = Watch::new(path, &files);
    let config = files.config()?;
    for unused in &config.unused {
        tracing::warn!("{unused}");
    }
    Ok((config, watch))
}

/// Runs to the end. What still blocks then, a name lookup or a log that nobody reads, is not waited for.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // Connections have threads of their own (`workers`).
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}
