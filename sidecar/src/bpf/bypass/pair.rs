//! Two ends of a connection over loopback, one as the proxy's and one as a program's, for the self-test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sidecar_common::bypass::{Answer, Ask, seen, term};
use sidecar_common::flow::Role;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Bypass, Hop};
use crate::net::sys;

/// Loopback takes microseconds: what takes this long does not come.
const DEADLINE: Duration = Duration::from_millis(500);

/// Makes pairs.
pub(super) struct Pairs<'a> {
    bypass: &'a Bypass,
    listener: TcpListener,
    mark: u32,
}

/// Both ends, non-blocking.
pub(super) struct Pair {
    /// The end that dialled, as the proxy.
    pub proxy: TcpStream,
    /// The end that accepted, as a program.
    pub program: TcpStream,
    /// The hop between them.
    pub hop: Hop,
}

/// The bytes of a stream: each says where in it it belongs.
#[derive(Clone, Copy, Default)]
pub(super) struct Stamp(u64);

impl<'a> Pairs<'a> {
    /// `mark`: of the proxy's sockets; 0: they are known otherwise.
    pub(super) fn new(bypass: &'a Bypass, mark: u32) -> io::Result<Self> {
        let listener = marked(mark)?;
        // Its port is not one to steer. Where nobody listens to this, nothing is steered.
        let _ = sys::announce(&listener, Role::Own);
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(8)?;
        Ok(Self { bypass, listener: listener.into(), mark })
    }

    /// Connected, and not looked at yet.
    pub(super) fn connected(&self) -> io::Result<Pair> {
        let address = self.listener.local_addr()?;
        let proxy = marked(self.mark)?;
        proxy.connect_timeout(&address.into(), DEADLINE)?;
        let proxy: TcpStream = proxy.into();
        let (program, _) = self.listener.accept()?;
        for end in [&proxy, &program] {
            end.set_nonblocking(true)?;
            end.set_nodelay(true)?;
        }
        let hop = Hop {
            cookie: SockRef::from(&proxy).cookie()?,
            local: proxy.local_addr()?,
            remote: proxy.peer_addr()?,
        };
        Ok(Pair { proxy, program, hop })
    }

    /// Connected and enrolled, both ways.
    pub(super) fn enrolled(&self) -> Result<Pair, String> {
        self.enrolled_on(term::BOTH_WAYS)
    }

    /// Connected and enrolled on these terms.
    pub(super) fn enrolled_on(&self, terms: u32) -> Result<Pair, String> {
        let pair = self.connected().map_err(|error| error.to_string())?;
        let answer = self.ask(Ask::Enrol, &pair, terms)?;
        if answer.seen & seen::ENROLLED == 0 {
            return Err(format!("not enrolled: {}", super::in_words(answer.seen)));
        }
        Ok(pair)
    }

    pub(super) fn ask(&self, ask: Ask, pair: &Pair, terms: u32) -> Result<Answer, String> {
        self.bypass.ask(ask, pair.hop, terms).map_err(|error| format!("ask the kernel half: {error}"))
    }
}

impl Stamp {
    /// The next `length` bytes.
    pub(super) fn next(&mut self, length: usize) -> Vec<u8> {
        let bytes = (self.0..self.0 + length as u64).map(at).collect();
        self.0 += length as u64;
        bytes
    }

    /// Takes what was read; an error says where it does not fit.
    pub(super) fn expect(&mut self, bytes: &[u8]) -> Result<(), String> {
        for byte in bytes {
            if *byte != at(self.0) {
                return Err(format!("byte {} is not the one that was sent there", self.0));
            }
            self.0 += 1;
        }
        Ok(())
    }

    /// How far it is.
    pub(super) fn position(self) -> u64 {
        self.0
    }

    /// The last `length` bytes were not sent after all.
    pub(super) fn back(&mut self, length: usize) {
        self.0 -= length as u64;
    }
}

/// Not periodic within what a buffer holds (the finalizer of splitmix64).
#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
fn at(offset: u64) -> u8 {
    let mixed = (offset ^ offset >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 27) as u8
}

/// Waits until there is something to read, or the end, or an error.
pub(super) fn readable(stream: &TcpStream) -> Result<(), String> {
    let mut set = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(DEADLINE).unwrap_or(PollTimeout::MAX);
    match poll(&mut set, timeout) {
        Ok(0) => Err("what was sent does not come".to_owned()),
        Ok(_) => Ok(()),
        Err(errno) => Err(errno.to_string()),
    }
}

/// Reads until the stamp is there; 0 bytes before that are an error.
pub(super) fn read_until(mut stream: &TcpStream, stamp: &mut Stamp, end: u64) -> Result<(), String> {
    let mut buffer = vec![0; 64 * 1024];
    // A loaded machine may take long over all of it, but not over the next of it.
    let mut since = Instant::now();
    while stamp.position() < end {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(format!("the end comes after {} of {end} bytes", stamp.position())),
            Ok(read) => {
                stamp.expect(&buffer[..read])?;
                since = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => readable(stream)?,
            Err(error) => return Err(format!("read after {} of {end} bytes: {error}", stamp.position())),
        }
        if since.elapsed() > DEADLINE * 4 {
            return Err(format!("only {} of {end} bytes come", stamp.position()));
        }
    }
    Ok(())
}

/// Reads the end, and nothing before it.
pub(super) fn read_end(mut stream: &TcpStream) -> Result<(), String> {
    loop {
        match stream.read(&mut [0; 16]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err("more comes than was sent".to_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => readable(stream)?,
            Err(error) => return Err(format!("read the end: {error}")),
        }
    }
}

/// Writes as much of `length` bytes as the kernel takes at once.
pub(super) fn write_some(mut stream: &TcpStream, stamp: &mut Stamp, length: usize) -> io::Result<usize> {
    let bytes = stamp.next(length);
    let written = match stream.write(&bytes) {
        Ok(written) => written,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => {
            stamp.back(length);
            return Err(error);
        }
    };
    stamp.back(length - written);
    Ok(written)
}

fn marked(mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    Ok(socket)
}
