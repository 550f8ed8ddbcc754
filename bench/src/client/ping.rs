//! Messages to and fro on connections that stay.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::meter::Meter;
use crate::metric::Sample;

/// A connection is warm after so many messages.
pub(super) const WARM: u64 = 100;

/// The longest wait for an event before the time is looked at.
const TICK: Duration = Duration::from_millis(50);

/// One exchange at a time on a connection.
pub(super) struct Exchange {
    stream: TcpStream,
    written: usize,
    read: usize,
    since: Instant,
}

struct Pinger {
    exchange: Exchange,
    messages: u64,
    at_start: Option<u64>,
}

/// Measures.
pub(super) fn run(target: SocketAddr, mut meter: Meter, size: usize, connections: usize) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let mut pingers = Vec::with_capacity(connections);
    for index in 0..connections {
        let exchange = Exchange::begin(target, &poll, Token(index))?;
        pingers.push(Pinger { exchange, messages: 0, at_start: None });
    }
    let (message, mut buffer) = (vec![b'x'; size], vec![0; size]);
    let mut events = Events::with_capacity(connections.clamp(1, 1024));
    let mut cold = connections;
    meter.begin();
    loop {
        wait(&mut poll, &mut events)?;
        let mut now = Instant::now();
        for event in &events {
            let pinger = &mut pingers[event.token().0];
            if pinger.exchange.progress(&message, &mut buffer).context("a connection broke")? {
                now = Instant::now();
                meter.record(now - pinger.exchange.since);
                pinger.messages += 1;
                cold -= usize::from(pinger.messages == WARM);
                pinger.exchange.again(now, &message).context("a connection broke")?;
            }
        }
        let was_measuring = meter.is_measuring();
        if meter.is_over(now, cold == 0)? {
            break;
        }
        if !was_measuring && meter.is_measuring() {
            for pinger in &mut pingers {
                pinger.at_start = Some(pinger.messages);
            }
        }
    }
    let stalled = pingers.iter().filter(|pinger| pinger.at_start == Some(pinger.messages)).count();
    ensure!(stalled < connections, "no connection made progress");
    meter.messages(stalled)
}

/// Waits for events, but not for ever.
pub(super) fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, Some(TICK)) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        done => done,
    }
}

// === impl Exchange ===

impl Exchange {
    /// Connects; the first message goes as soon as the connection is up.
    pub(super) fn begin(target: SocketAddr, poll: &Poll, token: Token) -> io::Result<Self> {
        let since = Instant::now();
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, written: 0, read: 0, since })
    }

    /// Since when it has been under way.
    pub(super) fn latency(&self, now: Instant) -> Duration {
        now - self.since
    }

    /// Writes what can be written, then reads; true when all of the answer is there. The server answers whole
    /// messages, so there is nothing to read before all is written, and nothing left after the answer.
    pub(super) fn progress(&mut self, message: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
        match self.try_progress(message, buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                Ok(false)
            }
            other => other,
        }
    }

    /// The next message.
    fn again(&mut self, now: Instant, message: &[u8]) -> io::Result<()> {
        (self.written, self.read, self.since) = (0, 0, now);
        self.progress(message, &mut []).map(drop)
    }

    fn try_progress(&mut self, message: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
        if self.written < message.len() {
            while self.written < message.len() {
                self.written += self.stream.write(&message[self.written..])?;
            }
            return Ok(false);
        }
        while self.read < message.len() {
            match self.stream.read(&mut buffer[self.read..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => self.read += length,
            }
        }
        Ok(true)
    }
}
