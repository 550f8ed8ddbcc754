//! Real servers, each ended when dropped. Every function returns when the server accepts connections.

mod dns;
mod envoy;
mod nginx;
mod postgres;
mod redis;

use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use dns::Dns;
pub use envoy::Envoy;
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use redis::Redis;

use crate::wait::{DEADLINE, eventually};
use crate::{Netns, Place, Program};

/// What `programs/serve.py` does with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Sends back what it receives, then ends as the client does. Also UDP.
    Echo,
    /// Speaks first, as SMTP does, then answers each line.
    Banner,
    /// Says on one JSON line what `accept()`, `getpeername()` and `getsockname()` gave.
    Peername,
    /// Receives to the end, then answers with length and SHA-256.
    Sink,
    /// Sends what was asked for, half-closes, and prints what it receives after that.
    Source,
    /// Accepts and never reads.
    Blackhole,
    /// Reads 10 bytes, sends as many as they say, and closes with what else came unread.
    Hasty,
    /// Answers in part and resets, while the client goes on sending.
    Cutoff,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Banner => "banner",
            Self::Peername => "peername",
            Self::Sink => "sink",
            Self::Source => "source",
            Self::Blackhole => "blackhole",
            Self::Hasty => "hasty",
            Self::Cutoff => "cutoff",
        }
    }
}

/// Starts a test server of this kind on `address`; `*:port` is one socket for all addresses of both families.
#[track_caller]
pub fn serve(place: &Place, kind: Kind, address: &str) -> Program {
    let mut program = Program::start(python(place, "serve.py").args([kind.name(), address]));
    program.wait_for_output("listening");
    program
}

/// Starts a program that listens on all of these ports of every IPv4 address and never accepts.
#[track_caller]
pub fn listen(place: &Place, ports: &Range<u16>) -> Program {
    listeners(place, ports, &[])
}

/// The same by two processes at the same moment; when this returns, one of them has closed its sockets again.
#[track_caller]
pub fn listen_twice(place: &Place, ports: &Range<u16>) -> Program {
    listeners(place, ports, &["--twice"])
}

#[track_caller]
fn listeners(place: &Place, ports: &Range<u16>, options: &[&str]) -> Program {
    let mut command = python(place, "listeners.py");
    command.args(["0.0.0.0", &ports.start.to_string(), &ports.len().to_string()]).args(options);
    let mut program = Program::start(&mut command);
    program.wait_for_output("listening");
    program
}

/// Starts Python's own HTTP server on every IPv4 address, serving `directory`.
#[track_caller]
pub fn http_server(netns: &Netns, place: &Place, port: u16, directory: &Path) -> Program {
    let mut command = place.command(interpreter());
    command.args(["-B", "-m", "http.server", "--bind", "0.0.0.0"]).arg(port.to_string());
    let program = Program::start(command.current_dir(directory));
    accepts(netns, port, program)
}

/// Starts `programs/http_server.py` on `port` of every IPv4 address: it keeps the headers of requests as they came, and what it
/// does with a request is said by its path.
#[track_caller]
pub fn serve_http(place: &Place, port: u16) -> Program {
    let mut program = Program::start(python(place, "http_server.py").arg("0.0.0.0").arg(port.to_string()));
    program.wait_for_output("listening");
    program
}

/// Starts `programs/backends.py` on these ports of every IPv4 address: servers that say what they were asked.
#[track_caller]
pub fn serve_backends(place: &Place, ports: &[u16]) -> Program {
    let mut command = python(place, "backends.py");
    let mut program = Program::start(command.arg("0.0.0.0").args(ports.iter().map(u16::to_string)));
    program.wait_for_output("listening");
    program
}

/// A command that runs one of `tests/programs` at `place`.
pub fn python(place: &Place, script: &str) -> Command {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let mut command = place.command(interpreter());
    // -B: leave no __pycache__ in the source tree.
    command.arg("-B").arg(programs.join(script));
    command
}

/// The distribution's Python before one of the user's, which may be a slow wrapper.
pub(crate) fn interpreter() -> PathBuf {
    let distribution = PathBuf::from("/usr/bin/python3");
    if distribution.exists() { distribution } else { "python3".into() }
}

/// Waits until something accepts on the loopback of `netns`. Loopback, because a sidecar leaves it alone: anywhere
/// else it would be the proxy that accepts.
#[track_caller]
fn accepts(netns: &Netns, port: u16, mut program: Program) -> Program {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually(DEADLINE, &format!("a server on port {port}"), || {
        assert!(!program.has_ended(), "the server ended: {}{}", program.stdout(), program.stderr());
        netns.enter(|| TcpStream::connect_timeout(&address, DEADLINE)).ok()
    });
    program
}

#[cfg(test)]
mod tests;
