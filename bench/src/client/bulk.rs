//! As many bytes as possible, one way. Who receives them counts them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::meter::Meter;
use crate::metric::Sample;
use crate::window::{CHUNK, Window};

/// Chunks between two looks at the time and at what came back.
const BURST: usize = 8;

/// How long the receiver may be late with its result.
const GRACE: Duration = Duration::from_secs(10);

struct Bulk {
    stream: TcpStream,
    poll: Poll,
    events: Events,
    deadline: Instant,
}

/// Measures from client to server; the server's answer says what it got.
pub(super) fn up(target: SocketAddr, mut meter: Meter) -> Result<Sample> {
    let mut bulk = Bulk::connect(target, &meter)?;
    let chunk = vec![b'x'; CHUNK];
    let (mut answer, mut read) = ([0; 16], 0);
    meter.begin();
    // Either may be first: the server's measurement begins with the first byte that it gets.
    while !meter.is_over(Instant::now(), true)? || read < answer.len() {
        let blocked = would_block((0..BURST).try_for_each(|_| bulk.stream.write(&chunk).map(drop)))?;
        bulk.wait(blocked)?;
        if read < answer.len() {
            match bulk.stream.read(&mut answer[read..]) {
                Ok(0) => bail!("the server ended early"),
                Ok(length) => read += length,
                Err(error) => drop(would_block(Err(error))?),
            }
        }
    }
    let [bytes, nanoseconds] =
        [0, 8].map(|at| answer[at..].iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b)));
    meter.bulk(bytes, Duration::from_nanos(nanoseconds))
}

/// Measures from server to client.
pub(super) fn down(target: SocketAddr, mut meter: Meter) -> Result<Sample> {
    let mut bulk = Bulk::connect(target, &meter)?;
    let [warmup, length] = meter.lengths();
    let mut window = Window::new(warmup, length);
    let mut chunk = vec![0; CHUNK];
    let mut result = None;
    meter.begin();
    loop {
        let blocked = would_block((0..BURST).try_for_each(|_| {
            let length = bulk.stream.read(&mut chunk)?;
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            result = result.or(window.observe(Instant::now(), length));
            Ok(())
        }))?;
        if let (true, Some((bytes, time))) = (meter.is_over(Instant::now(), true)?, result) {
            return meter.bulk(bytes, time);
        }
        bulk.wait(blocked)?;
    }
}

/// True when a call would have blocked.
fn would_block(result: io::Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error).context("the connection broke"),
    }
}

// === impl Bulk ===

impl Bulk {
    fn connect(target: SocketAddr, meter: &Meter) -> Result<Self> {
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
        let deadline = Instant::now() + meter.lengths().iter().sum::<Duration>() + GRACE;
        let mut bulk = Self { stream, poll, events: Events::with_capacity(4), deadline };
        while bulk.stream.peer_addr().is_err() {
            bulk.wait(true)?;
            if let Some(error) = bulk.stream.take_error()? {
                return Err(error).context("connect");
            }
        }
        Ok(bulk)
    }

    /// Takes what epoll has; waits for it when `blocked`.
    fn wait(&mut self, blocked: bool) -> Result<()> {
        ensure!(Instant::now() < self.deadline, "no progress");
        // So long at most, because the measurement ends by the clock too.
        let timeout = if blocked { Duration::from_millis(20) } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            done => Ok(done?),
        }
    }
}
