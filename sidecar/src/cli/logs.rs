//! `sidecar logs`: the lines of files, to standard output or a receiver.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::signals::Signals;
use crate::logs::{Glob, Origin, Output, Settings};

/// `sidecar logs`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The files: an absolute path, with `*`, `?` and `[a-z]` in any part. May be given several times.
    #[arg(long, value_name = "GLOB", required = true, num_args = 1..)]
    source: Vec<Glob>,
    /// Where it is remembered how far files were read. Without it, each start begins with their first lines.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Where lines go: stdout, or otlp=http://HOST:4318/v1/logs
    #[arg(long, value_name = "OUTPUT", default_value = "stdout")]
    output: Output,
    /// How many bytes a line may have; a longer one comes in pieces, all but the last marked as partial.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    max_line: u32,
    /// How many files are followed at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..=16_384))]
    max_files: u16,
    /// After SIGTERM: for how long lines are awaited and written at most. It ends a second after the last one.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    drain: u16,
    /// Where metrics are served at /metrics, such as 0.0.0.0:15020
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// The Pod's name
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod: Option<String>,
    /// The Pod's namespace
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    /// The Pod's node
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node: Option<String>,
    /// The Pod's uid
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pod_uid: Option<String>,
}

/// Follows until SIGTERM.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let settings = Settings {
        sources: args.source,
        checkpoint: args.checkpoint,
        output: args.output,
        origin: Origin { pod: args.pod, namespace: args.namespace, node: args.node, pod_uid: args.pod_uid },
        max_line: args.max_line as usize,
        max_files: args.max_files.into(),
        drain: Duration::from_secs(args.drain.into()),
        metrics: args.metrics,
    };
    super::block_on(async {
        let mut signals = Signals::new()?;
        crate::logs::run(settings, &mut signals).await?;
        Ok(super::DONE)
    })
}
