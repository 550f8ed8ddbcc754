//! Requests on one connection of HTTP/2, so many at a time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::meter::Meter;
use super::ping::wait;
use crate::http2::{self, Frame, kind};
use crate::metric::Sample;

/// What is read at once.
const CHUNK: usize = 64 << 10;

struct Streams {
    /// The header block of all requests.
    block: Vec<u8>,
    /// When each stream was begun, in their order.
    begun: Vec<Instant>,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
}

/// Measures.
pub(super) fn run(target: SocketAddr, mut meter: Meter, streams: usize) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    poll.registry().register(&mut stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
    let mut state = Streams::new(target.port());
    (0..streams).for_each(|_| state.begin());
    let mut events = Events::with_capacity(4);
    let mut chunk = vec![0; CHUNK];
    meter.begin();
    loop {
        wait(&mut poll, &mut events)?;
        if !events.is_empty() {
            while let Some(length) = would_block(stream.read(&mut chunk))? {
                ensure!(length > 0, "the connection was closed");
                state.receive(&chunk[..length], &mut meter)?;
            }
            state.write(&mut stream)?;
        }
        if meter.is_over(Instant::now(), state.begun.len() > 2 * streams)? {
            return meter.messages(0);
        }
    }
}

/// None when a call would have blocked.
fn would_block<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(None),
        Err(error) => Err(error).context("the connection broke"),
    }
}

// === impl Streams ===

impl Streams {
    fn new(port: u16) -> Self {
        let mut output = Vec::new();
        http2::client_begins(&mut output);
        let block = http2::request_block(port);
        Self { block, begun: Vec::new(), output, written: 0, input: Vec::new() }
    }

    /// A client's streams have odd numbers (RFC 9113, section 5.1.1).
    fn begin(&mut self) {
        let stream = u32::try_from(self.begun.len()).unwrap_or(u32::MAX / 2) * 2 + 1;
        self.begun.push(Instant::now());
        http2::request(&mut self.output, stream, &self.block);
    }

    /// Takes what came: a new stream for each that ended.
    fn receive(&mut self, bytes: &[u8], meter: &mut Meter) -> Result<()> {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut rest = input.as_slice();
        while let Some(frame) = Frame::take(&mut rest) {
            frame.acknowledge(&mut self.output);
            match frame.kind {
                kind::HEADERS => frame.check_status()?,
                kind::RST_STREAM | kind::GOAWAY => bail!("ended by {frame:?}"),
                _ => {}
            }
            if frame.ends_stream() {
                let begun = self.begun.get(frame.stream as usize / 2).context("an answer to no request")?;
                meter.record(begun.elapsed());
                self.begin();
            }
        }
        let read = input.len() - rest.len();
        input.drain(..read);
        self.input = input;
        Ok(())
    }

    fn write(&mut self, stream: &mut TcpStream) -> Result<()> {
        while self.written < self.output.len() {
            let Some(length) = would_block(stream.write(&self.output[self.written..]))? else {
                return Ok(());
            };
            self.written += length;
        }
        self.written = 0;
        self.output.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Watched;

    #[test]
    fn a_stream_that_ends_is_followed_by_another() {
        let mut meter = Meter::new(Watched::default(), std::time::Duration::ZERO, std::time::Duration::ZERO);
        let mut streams = Streams::new(80);
        streams.begin();
        let mut answer = Vec::new();
        http2::answer(&mut answer, 1);
        let (first, last) = answer.split_at(20);
        streams.receive(first, &mut meter).unwrap();
        assert_eq!(streams.begun.len(), 1);
        streams.receive(last, &mut meter).unwrap();
        assert_eq!(streams.begun.len(), 2);
        let mut stray = Vec::new();
        http2::answer(&mut stray, 99);
        assert!(streams.receive(&stray, &mut meter).is_err());
    }
}
