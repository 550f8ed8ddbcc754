//! The server of a case: echoes, sinks, sources or answers requests, in one thread, without blocking.

mod http;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use self::http::Http;
use crate::affinity;
use crate::window::{CHUNK, Window};

/// `sidecar-bench server`: prints its port, and serves until it is killed.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The processor to run on; by default any.
    #[arg(long)]
    cpu: Option<usize>,
    /// Where to listen; at port 0, at one of the kernel's choice.
    #[arg(long)]
    address: SocketAddr,
    #[command(subcommand)]
    service: Service,
}

/// What is done with every connection.
#[derive(clap::Subcommand, Clone, Copy, Debug)]
enum Service {
    /// Sends back each message once all of it is there.
    Echo {
        #[arg(long)]
        size: usize,
    },
    /// Reads, and after the measurement answers with what it got: bytes and nanoseconds, eight big-endian bytes each.
    Sink {
        #[arg(long)]
        warmup_ms: u64,
        #[arg(long)]
        length_ms: u64,
    },
    /// Writes.
    Source,
    /// Answers requests of HTTP/1.1 and HTTP/2, as they come.
    Http,
    /// Answers unary calls of gRPC.
    Grpc,
}

/// A connection's state.
struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Of the message that is being read.
    read: usize,
    /// Of the message that is being sent back.
    written: usize,
    window: Option<Window>,
    http: Http,
}

/// What is read of requests at once.
const REQUESTS: usize = 16 << 10;

const LISTENER: Token = Token(usize::MAX);

/// Serves.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(cpu) = args.cpu {
        affinity::pin_this_process(cpu)?;
    }
    let mut listener = TcpListener::bind(args.address)?;
    println!("{}", listener.local_addr()?.port());
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Events::with_capacity(256);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => done?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, &poll, args.service, &mut peers, &mut free)?;
            } else if let Some(slot) = peers.get_mut(event.token().0) {
                let goes_on =
                    slot.as_mut().is_some_and(|peer| peer.serve(args.service, event).unwrap_or(false));
                // An error ends the connection, as its end does; the client notices and tells.
                if !goes_on && slot.take().is_some() {
                    free.push(event.token().0);
                }
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    poll: &Poll,
    service: Service,
    peers: &mut Vec<Option<Peer>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The client gave up before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let mut peer = Peer::new(stream, service)?;
        let index = free.pop().unwrap_or_else(|| {
            peers.push(None);
            peers.len() - 1
        });
        poll.registry().register(&mut peer.stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        peers[index] = Some(peer);
    }
}

// === impl Peer ===

impl Peer {
    fn new(stream: TcpStream, service: Service) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (size, window) = match service {
            Service::Echo { size } => (size, None),
            Service::Source => (CHUNK, None),
            Service::Http | Service::Grpc => (REQUESTS, None),
            Service::Sink { warmup_ms, length_ms } => {
                (CHUNK, Some(Window::new(Duration::from_millis(warmup_ms), Duration::from_millis(length_ms))))
            }
        };
        let http = Http::new(matches!(service, Service::Grpc));
        Ok(Self { stream, buffer: vec![b'x'; size], read: 0, written: 0, window, http })
    }

    /// Does what can be done now; false when the connection has ended.
    fn serve(&mut self, service: Service, event: &Event) -> io::Result<bool> {
        let progress = match service {
            Service::Echo { .. } => self.echo(event),
            Service::Sink { .. } => self.sink(),
            Service::Source => self.source(),
            Service::Http | Service::Grpc => self.http(event),
        };
        match progress {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            other => other,
        }
    }

    /// After an answer nothing can have come: the client waits for it. So neither side reads in vain.
    fn echo(&mut self, event: &Event) -> io::Result<bool> {
        if self.read < self.buffer.len() && event.is_readable() {
            while self.read < self.buffer.len() {
                match self.stream.read(&mut self.buffer[self.read..])? {
                    0 => return Ok(false),
                    length => self.read += length,
                }
            }
        }
        if self.read == self.buffer.len() {
            while self.written < self.buffer.len() {
                self.written += self.stream.write(&self.buffer[self.written..])?;
            }
            (self.read, self.written) = (0, 0);
        }
        Ok(true)
    }

    fn sink(&mut self) -> io::Result<bool> {
        loop {
            let length = self.stream.read(&mut self.buffer)?;
            if length == 0 {
                return Ok(false);
            }
            let seen = self.window.as_mut().and_then(|window| window.observe(Instant::now(), length));
            if let Some((bytes, elapsed)) = seen {
                let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
                let answer = [bytes.to_be_bytes(), nanoseconds.to_be_bytes()].concat();
                // Sixteen bytes fit into the empty buffer of a socket that has sent nothing.
                self.stream.write_all(&answer)?;
            }
        }
    }

    fn source(&mut self) -> io::Result<bool> {
        loop {
            if self.stream.write(&self.buffer)? == 0 {
                return Ok(false);
            }
        }
    }

    fn http(&mut self, event: &Event) -> io::Result<bool> {
        let mut more = event.is_readable();
        while more {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => more = self.http.receive(&self.buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => more = false,
                Err(error) => return Err(error),
            }
        }
        while self.written < self.http.output.len() {
            self.written += self.stream.write(&self.http.output[self.written..])?;
        }
        self.written = 0;
        self.http.output.clear();
        Ok(true)
    }
}
