//! A run: clients, as many at once as was asked for, and the summary.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crowd::Crowd;
use crate::endpoint::Endpoint;
use crate::fault::{Fault, Kind};
use crate::plan::{Driver, Plan, name};
use crate::stamp::Direction;

/// Between two looks for ends that hang.
const INTERVAL: Duration = Duration::from_millis(200);

/// Between two lines about how far it is.
const REPORT: Duration = Duration::from_secs(10);

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Same seed, same connections.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only ends that earn the bypass.
    #[arg(long)]
    event_driven: bool,
    /// No connection begins after so many seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The most connections.
    #[arg(long, default_value_t = u32::MAX)]
    connections: u32,
    /// The first connection's number: a run of one connection repeats it.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// A server that runs already, with the same seed; otherwise one is started.
    #[arg(long)]
    server: Option<SocketAddr>,
    /// How many connections there are at once.
    #[arg(long, default_value_t = 64)]
    at_once: u32,
    /// Seconds without progress that are a hang.
    #[arg(long, value_parser = crate::patience, default_value = "20")]
    patience: Duration,
    /// What some clients send wrong on purpose, which the server has to find.
    #[arg(long, hide = true)]
    fault: Option<Kind>,
}

/// A server of our own.
struct Server {
    child: Child,
    said: BufReader<ChildStdout>,
    port: u16,
}

/// Behaviours, each with how many ends had it.
type Counts = BTreeMap<String, u64>;

/// Runs both sides; true when nothing failed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let server = if options.server.is_some() { None } else { Some(Server::start(options)?) };
    let own = server.as_ref().map(|server| SocketAddr::from((Ipv4Addr::LOCALHOST, server.port)));
    let Some(address) = options.server.or(own) else { return Err(Error::other("no server")) };
    let crowd = Crowd::default();
    let (next, over) = (AtomicU32::new(0), AtomicBool::new(false));
    let end = start + Duration::from_secs(options.seconds);
    let counts = thread::scope(|scope| {
        let client = || {
            let mut counts = Counts::new();
            while Instant::now() < end {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= options.connections {
                    break;
                }
                let plan = Plan::new(options.seed, options.first + number);
                let plan = if options.event_driven { plan.event_driven() } else { plan };
                count(&mut counts, &plan);
                connect(&crowd, address, options, plan);
            }
            counts
        };
        let clients: Vec<_> = (0..options.at_once).map(|_| scope.spawn(client)).collect();
        scope.spawn(|| watch(&crowd, options.patience, start, &over));
        let mut all = Counts::new();
        for counts in clients.into_iter().filter_map(|client| client.join().ok()) {
            for (name, count) in counts {
                *all.entry(name).or_default() += count;
            }
        }
        over.store(true, Ordering::Relaxed);
        all
    });
    // A server that was not started here is asked by whoever started it.
    let seen = server.map_or(Ok(json!({"failed": 0})), Server::end)?;
    let failed = crowd.failed.load(Ordering::Relaxed) + seen["failed"].as_u64().unwrap_or(1);
    let summary = json!({
        "seed": options.seed,
        "seconds": start.elapsed().as_secs(),
        "connections": crowd.ended.load(Ordering::Relaxed),
        "bytesUp": seen["bytes"],
        "bytesDown": crowd.bytes.load(Ordering::Relaxed),
        "ends": counts,
        "failed": failed,
        "clientFailures": crowd.failures(),
        "serverFailures": seen["failures"],
    });
    writeln!(std::io::stdout(), "{summary:#}")?;
    Ok(failed == 0)
}

impl Server {
    fn start(options: &Options) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--seed", &options.seed.to_string()]);
        command.args(["--patience", &options.patience.as_secs().to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(child.stdout.take().ok_or_else(|| Error::other("no pipe"))?);
        let mut port = String::new();
        said.read_line(&mut port)?;
        let port = port.trim().parse().map_err(|_| Error::other(format!("the server said {port:?}")))?;
        Ok(Self { child, said, port })
    }

    /// What it says when it has ended.
    fn end(mut self) -> Result<Value> {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        self.child.wait()?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// Runs a connection from first to last.
fn connect(crowd: &Crowd, server: SocketAddr, options: &Options, plan: Plan) {
    let socket = match plan.client.driver {
        Driver::Blocking => TcpStream::connect(server),
        // Non-blocking while it connects.
        _ => TcpStream::connect_timeout(&server, options.patience),
    };
    let number = plan.connection;
    let greeted = socket.and_then(|mut socket| socket.write_all(&number.to_le_bytes()).map(|()| socket));
    match greeted {
        Ok(socket) => {
            let fault = options.fault.map(|kind| Fault { kind, at: plan.client.outgoing() / 2 });
            // Where too little is sent, what is lost could be the end, and where one breaks off, anything.
            let fault = fault.filter(|fault| number.is_multiple_of(16) && !plan.breaks() && fault.at > 1000);
            crowd.run(Endpoint::new(socket, options.seed, plan, Direction::Up), fault);
        }
        Err(error) => crowd.fail(format!("connection {number}: connect: {error}")),
    }
}

#[allow(clippy::disallowed_methods, reason = "waits between two looks")]
fn watch(crowd: &Crowd, patience: Duration, start: Instant, over: &AtomicBool) {
    let mut report = start + REPORT;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(INTERVAL);
        crowd.end_hanging(patience);
        if Instant::now() > report {
            report += REPORT;
            let (ended, bytes) = (crowd.ended.load(Ordering::Relaxed), crowd.bytes.load(Ordering::Relaxed));
            let seconds = start.elapsed().as_secs();
            let _ = writeln!(std::io::stderr(), "{seconds} s: {ended} connections, {} MiB down", bytes >> 20);
        }
    }
}

fn count(counts: &mut Counts, plan: &Plan) {
    for side in [&plan.client, &plan.server] {
        for behaviour in [name(side.driver), name(side.writes), name(side.reads), name(side.end)] {
            *counts.entry(behaviour).or_default() += 1;
        }
        if !side.pauses.is_empty() {
            *counts.entry("Pauses".to_owned()).or_default() += 1;
        }
    }
}
