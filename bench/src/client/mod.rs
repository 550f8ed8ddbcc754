//! The client of a case: makes its load in one thread, without blocking, and measures.

mod bulk;
mod connect;
mod hold;
mod http1;
mod http2;
mod meter;
mod paced;
mod ping;
mod request;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::affinity;
use crate::cpu::Watched;
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
    /// The one of them that is the client's proxy.
    #[arg(long)]
    proxy: Option<u32>,
    /// Where the server is.
    #[arg(long)]
    server: SocketAddr,
    #[arg(long, default_value_t = 250)]
    warmup_ms: u64,
    #[arg(long, default_value_t = 500)]
    length_ms: u64,
    #[command(subcommand)]
    load: Load,
}

#[derive(clap::Subcommand, Clone, Debug)]
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
        /// With a request on each, instead of a message.
        #[arg(long)]
        http: bool,
    },
    /// Requests of HTTP/1.1, at a fixed rate if there is one.
    Http1 {
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        rate: Option<f64>,
        /// What each request has as its bearer token.
        #[arg(long, conflicts_with = "rate")]
        token: Option<String>,
    },
    /// Requests on one connection of HTTP/2.
    Http2 {
        #[arg(long)]
        streams: usize,
        /// With unary calls of gRPC, instead of requests without a body.
        #[arg(long)]
        grpc: bool,
    },
}

/// Makes the load and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(cpu) = args.cpu {
        affinity::pin_this_process(cpu)?;
    }
    let target = args.server;
    let pids = [args.watch.as_slice(), &[std::process::id()]].concat();
    let [warmup, length] = [args.warmup_ms, args.length_ms].map(Duration::from_millis);
    let meter = Meter::new(Watched { pids, proxy: args.proxy }, warmup, length);
    let sample: Sample = match args.load {
        Load::Ping { size, connections } => ping::run(target, meter, size, connections)?,
        Load::Connect { workers } => connect::run(target, meter, workers)?,
        Load::Up => bulk::up(target, meter)?,
        Load::Down => bulk::down(target, meter)?,
        Load::Hold { connections, http } => return hold::run(target, connections, http),
        Load::Http1 { connections, rate: Some(rate), .. } => paced::run(target, meter, connections, rate)?,
        Load::Http1 { connections, rate: None, ref token } => {
            http1::run(target, meter, connections, token.as_deref())?
        }
        Load::Http2 { streams, grpc } => http2::run(target, meter, streams, grpc)?,
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}
