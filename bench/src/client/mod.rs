//! The client of a case: makes its load in one thread, without blocking, and measures.

mod bulk;
mod connect;
mod hold;
mod meter;
mod ping;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use crate::affinity;
use crate::metric::Sample;
use meter::Meter;

/// `sidecar-bench client`: prints what it measured as one line of JSON.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The processor to run on; by default any.
    #[arg(long)]
    cpu: Option<usize>,
    /// A process whose time counts as well.
    #[arg(long)]
    watch: Vec<u32>,
    /// The server's port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 250)]
    warmup_ms: u64,
    #[arg(long, default_value_t = 500)]
    length_ms: u64,
    #[command(subcommand)]
    load: Load,
}

#[derive(clap::Subcommand, Clone, Copy, Debug)]
enum Load {
    /// Messages to and fro.
    Ping {
        #[arg(long)]
        size: usize,
        #[arg(long)]
        connections: usize,
    },
    /// A connection for each message.
    Connect {
        #[arg(long)]
        workers: usize,
    },
    /// As many bytes as possible to a sink.
    Up,
    /// As many bytes as possible from a source.
    Down,
    /// Open connections until standard input ends.
    Hold {
        #[arg(long)]
        connections: usize,
    },
}

/// Makes the load and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(cpu) = args.cpu {
        affinity::pin_this_process(cpu)?;
    }
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let pids = [args.watch.as_slice(), &[std::process::id()]].concat();
    let [warmup, length] = [args.warmup_ms, args.length_ms].map(Duration::from_millis);
    let meter = Meter::new(pids, warmup, length);
    let sample: Sample = match args.load {
        Load::Ping { size, connections } => ping::run(target, meter, size, connections)?,
        Load::Connect { workers } => connect::run(target, meter, workers)?,
        Load::Up => bulk::up(target, meter)?,
        Load::Down => bulk::down(target, meter)?,
        Load::Hold { connections } => return hold::run(target, connections),
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}
