//! Readers that stop: how much their senders get rid of until nobody takes more, and that all of it arrives.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::stamp::{Direction, Stream};

/// What is said to and fro first, so that a connection is known as interactive.
const ROUNDS: usize = 64;
const MESSAGE: usize = 64;

/// What a write offers.
const OFFER: usize = 64 << 10;

/// Nobody takes more when nobody has for so long.
const QUIET: Duration = Duration::from_secs(1);

/// The longest wait for bytes that were sent.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// How many there are at once.
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// The server sends, and the client stops reading.
    #[arg(long)]
    down: bool,
    /// A sender that gets rid of more bytes than this is held by nobody: the run ends.
    #[arg(long)]
    limit: u64,
}

/// A non-blocking socket that waits with epoll, and what it has sent and received.
struct End {
    socket: TcpStream,
    epoll: Epoll,
    sends: Stream,
    receives: Stream,
    sent: u64,
    received: u64,
}

/// Opens the connections, lets the readers stop, says how much their senders got rid of, and on the next line of the
/// standard input lets the readers go on.
pub(crate) fn stall(options: &Options) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut pairs = connect(options)?;
    for _ in 0..ROUNDS {
        ping_pong(&mut pairs)?;
    }
    let before = pairs.first().map_or(0, |(sender, _)| sender.sent);
    flood(&mut pairs, options.limit)?;
    let accepted = || pairs.iter().map(|(sender, _)| sender.sent - before);
    let (most, total) = (accepted().max().unwrap_or(0), accepted().sum::<u64>());
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", json!({"stalled": pairs.len(), "most": most, "total": total}))?;
    std::io::stdin().read_line(&mut String::new())?;
    for (sender, reader) in &mut pairs {
        while reader.received < sender.sent {
            reader.receive(OFFER)?;
        }
    }
    for _ in 0..ROUNDS {
        ping_pong(&mut pairs)?;
    }
    for (sender, reader) in &mut pairs {
        sender.socket.shutdown(std::net::Shutdown::Write)?;
        reader.end()?;
    }
    writeln!(stdout, "{}", json!({"drained": total}))
}

/// Each connection's two ends, the sender first.
fn connect(options: &Options) -> Result<Vec<(End, End)>> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    let pair = |connection| {
        // One at a time, so that what is accepted is what was connected.
        let client = End::new(TcpStream::connect_timeout(&address, PATIENCE)?, connection, Direction::Up)?;
        let server = End::new(listener.accept()?.0, connection, Direction::Down)?;
        Ok(if options.down { (server, client) } else { (client, server) })
    };
    (0..options.connections).map(pair).collect()
}

/// A message and its answer on every connection.
fn ping_pong(pairs: &mut [(End, End)]) -> Result<()> {
    for (sender, _) in &mut *pairs {
        sender.say()?;
    }
    for (_, reader) in &mut *pairs {
        reader.hear()?;
        reader.say()?;
    }
    pairs.iter_mut().try_for_each(|(sender, _)| sender.hear())
}

/// Sends on all connections until nobody takes more.
#[allow(clippy::disallowed_methods, reason = "waits between two attempts")]
fn flood(pairs: &mut [(End, End)], limit: u64) -> Result<()> {
    let mut last = Instant::now();
    while last.elapsed() < QUIET {
        let mut moved = false;
        for (sender, _) in &mut *pairs {
            moved |= sender.send(OFFER)? > 0;
            if sender.sent > limit {
                return Err(Error::other(format!("a sender got rid of more than {limit} bytes")));
            }
        }
        if moved {
            last = Instant::now();
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

impl End {
    fn new(socket: TcpStream, connection: u32, direction: Direction) -> Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        let stream = |direction| Stream { seed: 1, connection, direction };
        let other = if direction == Direction::Up { Direction::Down } else { Direction::Up };
        Ok(Self { socket, epoll, sends: stream(direction), receives: stream(other), sent: 0, received: 0 })
    }

    /// Sends a message, for which there is room.
    fn say(&mut self) -> Result<()> {
        match self.send(MESSAGE)? {
            MESSAGE => Ok(()),
            other => Err(Error::other(format!("only {other} bytes of a message were taken"))),
        }
    }

    /// Receives a message.
    fn hear(&mut self) -> Result<()> {
        let until = self.received + MESSAGE as u64;
        while self.received < until {
            self.receive(MESSAGE)?;
        }
        Ok(())
    }

    /// How many of so many bytes the socket took.
    fn send(&mut self, length: usize) -> Result<usize> {
        let mut bytes = vec![0; length];
        self.sends.fill(self.sent, &mut bytes);
        match self.socket.write(&bytes) {
            Ok(length) => {
                self.sent += length as u64;
                Ok(length)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Waits for bytes, at most so many, and looks at them.
    fn receive(&mut self, most: usize) -> Result<()> {
        let mut bytes = vec![0; most];
        let length = self.read(&mut bytes)?;
        if length == 0 {
            return Err(Error::other(format!("{:?} ended at {}", self.receives, self.received)));
        }
        if let Some(at) = self.receives.first_wrong(self.received, &bytes[..length]) {
            let offset = self.received + at as u64;
            return Err(Error::other(crate::receive::diagnose(self.receives, offset, &bytes[at..length])));
        }
        self.received += length as u64;
        Ok(())
    }

    /// Waits for the end.
    fn end(&mut self) -> Result<()> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Error::other(format!("{:?} goes on after its end", self.receives))),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        loop {
            match self.socket.read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let patience = EpollTimeout::try_from(PATIENCE).unwrap_or(EpollTimeout::NONE);
                    if self.epoll.wait(&mut [EpollEvent::empty()], patience)? == 0 {
                        let what = format!("{:?} hangs at {}", self.receives, self.received);
                        return Err(Error::new(ErrorKind::TimedOut, what));
                    }
                }
                other => return other,
            }
        }
    }
}
