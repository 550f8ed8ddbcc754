//! The server of a run.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use crate::crowd::Crowd;
use crate::endpoint::Endpoint;
use crate::plan::Plan;
use crate::stamp::Direction;

/// Between two looks for ends that hang.
const INTERVAL: Duration = Duration::from_millis(200);

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only ends that earn the bypass.
    #[arg(long)]
    event_driven: bool,
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Seconds without progress that are a hang.
    #[arg(long, value_parser = crate::patience, default_value = "20")]
    patience: Duration,
}

/// Listens, says on which port, and serves until the standard input ends and all connections have; then
/// says what it received and what failed.
#[allow(clippy::disallowed_methods, reason = "waits between two looks")]
pub(crate) fn serve(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", listener.local_addr()?.port())?;
    let crowd = Arc::new(Crowd::default());
    let (seed, event_driven, accepting) = (options.seed, options.event_driven, Arc::clone(&crowd));
    thread::spawn(move || {
        for socket in listener.incoming() {
            let crowd = Arc::clone(&accepting);
            match socket {
                Ok(socket) => drop(thread::spawn(move || welcome(&crowd, socket, seed, event_driven))),
                Err(error) => crowd.fail(format!("accept: {error}")),
            }
        }
    });
    let parent = thread::spawn(|| std::io::stdin().read(&mut [0]));
    while !parent.is_finished() || crowd.live() > 0 {
        thread::sleep(INTERVAL);
        crowd.end_hanging(options.patience);
    }
    let (bytes, ended) = (crowd.bytes.load(Ordering::Relaxed), crowd.ended.load(Ordering::Relaxed));
    let failed = crowd.failed.load(Ordering::Relaxed);
    writeln!(
        stdout,
        "{}",
        json!({"bytes": bytes, "ended": ended, "failed": failed, "failures": crowd.failures()})
    )
}

/// A program that waits in read() here is one that reads in blocking mode, to whoever looks.
fn read_number(socket: &mut TcpStream, number: &mut [u8; 4], event_driven: bool) -> Result<()> {
    if event_driven {
        socket.set_nonblocking(true)?;
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
    }
    // The four bytes are written at once.
    socket.read_exact(number)
}

/// Reads which connection this is, and runs its end.
fn welcome(crowd: &Crowd, mut socket: TcpStream, seed: u64, event_driven: bool) {
    let mut number = [0; 4];
    match read_number(&mut socket, &mut number, event_driven) {
        Ok(()) => {
            let plan = Plan::new(seed, u32::from_le_bytes(number));
            let plan = if event_driven { plan.event_driven() } else { plan };
            crowd.run(Endpoint::new(socket, seed, plan, Direction::Down), None);
        }
        // A client that broke off before anything was sent.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => (),
        Err(error) => crowd.fail(format!("a connection's number: {error}")),
    }
}
