//! A connection on which one request of HTTP/1.1 after the other is made.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use crate::http1;

/// No answer with what proxies add to it is longer.
const LONGEST: usize = 4096;

/// The connection and the request that is under way on it.
pub(super) struct Requester {
    stream: TcpStream,
    written: usize,
    read: usize,
    buffer: Box<[u8]>,
    /// From when the request's latency counts.
    pub(super) since: Instant,
    is_idle: bool,
}

impl Requester {
    /// Connects; the first request goes as soon as the connection is up.
    pub(super) fn begin(target: SocketAddr, poll: &Poll, token: Token) -> io::Result<Self> {
        let since = Instant::now();
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let buffer = vec![0; LONGEST].into_boxed_slice();
        Ok(Self { stream, written: 0, read: 0, buffer, since, is_idle: false })
    }

    /// The next request, which counts from `since`. The last one must have been answered.
    pub(super) fn again(&mut self, since: Instant, request: &[u8]) -> io::Result<()> {
        (self.written, self.read, self.since, self.is_idle) = (0, 0, since, false);
        self.progress(request).map(drop)
    }

    /// Writes what can be written, then reads; true when all of the answer is there, of which one is told once.
    pub(super) fn progress(&mut self, request: &[u8]) -> io::Result<bool> {
        match self.try_progress(request) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                Ok(false)
            }
            other => other,
        }
    }

    fn try_progress(&mut self, request: &[u8]) -> io::Result<bool> {
        if self.is_idle {
            return Ok(false);
        }
        if self.written < request.len() {
            while self.written < request.len() {
                self.written += self.stream.write(&request[self.written..])?;
            }
            // No answer can be there yet.
            return Ok(false);
        }
        loop {
            match self.stream.read(&mut self.buffer[self.read..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => self.read += length,
            }
            if let Some(length) = http1::length(&self.buffer[..self.read])? {
                if self.read > length {
                    return Err(io::Error::new(ErrorKind::InvalidData, "an answer longer than its length"));
                }
                self.is_idle = self.read == length;
                if self.is_idle {
                    return Ok(true);
                }
            }
        }
    }
}
