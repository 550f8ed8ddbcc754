//! Requests or calls of gRPC on one connection of HTTP/2, so many at a time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::meter::Meter;
use super::ping::wait;
use crate::grpc;
use crate::http2::{self, Frame, kind};
use crate::metric::Sample;

/// What is read at once.
const CHUNK: usize = 64 << 10;

struct Streams {
    /// Calls of gRPC, instead of requests without a body.
    grpc: bool,
    /// The header block of all requests.
    block: Vec<u8>,
    /// In the order of their numbers.
    begun: Vec<Stream>,
    /// How many wait for the window.
    waiting: usize,
    /// What the other side lets this one send.
    window: u64,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
}

struct Stream {
    since: Instant,
    /// The answer's message has come.
    has_message: bool,
}

/// Measures.
pub(super) fn run(target: SocketAddr, mut meter: Meter, streams: usize, grpc: bool) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    poll.registry().register(&mut stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
    let mut state = Streams::new(target.port(), grpc);
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
    fn new(port: u16, grpc: bool) -> Self {
        let mut output = Vec::new();
        http2::client_begins(&mut output);
        let block = if grpc { grpc::request_block(port) } else { http2::request_block(port) };
        let window = http2::WINDOW.into();
        let input = Vec::new();
        Self { grpc, block, begun: Vec::new(), waiting: 0, window, output, written: 0, input }
    }

    /// A client's streams have odd numbers (RFC 9113, section 5.1.1). A stream has a window of its own, which one message does
    /// not fill; that of the connection may have no room.
    fn begin(&mut self) {
        let body = if self.grpc { grpc::MESSAGE.len() as u64 } else { 0 };
        let Some(left) = self.window.checked_sub(body) else {
            self.waiting += 1;
            return;
        };
        self.window = left;
        let number = u32::try_from(self.begun.len()).unwrap_or(u32::MAX / 2) * 2 + 1;
        self.begun.push(Stream { since: Instant::now(), has_message: false });
        let request = if self.grpc { grpc::request } else { http2::request };
        request(&mut self.output, number, &self.block);
    }

    /// Takes what came: a new stream for each that ended.
    fn receive(&mut self, bytes: &[u8], meter: &mut Meter) -> Result<()> {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut rest = input.as_slice();
        while let Some(frame) = Frame::take(&mut rest) {
            frame.acknowledge(&mut self.output);
            match frame.kind {
                // Trailers, which have no status of HTTP.
                kind::HEADERS if self.grpc && frame.ends_stream() => {}
                kind::HEADERS => frame.check_status()?,
                kind::DATA if self.grpc && frame.payload == grpc::MESSAGE => {
                    self.stream(&frame)?.has_message = true;
                }
                kind::WINDOW_UPDATE if frame.stream == 0 => {
                    self.window += u64::from(frame.increment());
                    (0..std::mem::take(&mut self.waiting)).for_each(|_| self.begin());
                }
                kind::RST_STREAM | kind::GOAWAY => bail!("ended by {frame:?}"),
                _ => {}
            }
            if frame.ends_stream() {
                let grpc = self.grpc;
                let stream = self.stream(&frame)?;
                // A call that fails has its status in a header that ends the stream, and no message.
                let is_whole = !grpc || stream.has_message && frame.kind == kind::HEADERS;
                ensure!(is_whole, "a call was answered without message or trailers");
                meter.record(stream.since.elapsed());
                self.begin();
            }
        }
        let read = input.len() - rest.len();
        input.drain(..read);
        self.input = input;
        Ok(())
    }

    /// The stream of a frame.
    fn stream(&mut self, frame: &Frame<'_>) -> Result<&mut Stream> {
        self.begun.get_mut(frame.stream as usize / 2).context("an answer to no request")
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

    fn meter() -> Meter {
        Meter::new(Watched::default(), std::time::Duration::ZERO, std::time::Duration::ZERO)
    }

    #[test]
    fn a_stream_that_ends_is_followed_by_another() {
        let mut meter = meter();
        let mut streams = Streams::new(80, false);
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

    #[test]
    fn a_call_is_answered_by_a_message_and_trailers() {
        let mut streams = Streams::new(80, true);
        streams.begin();
        let mut answer = Vec::new();
        grpc::answer(&mut answer, 1);
        streams.receive(&answer, &mut meter()).unwrap();
        assert_eq!(streams.begun.len(), 2);
        // A header that ends the stream alone, as a proxy answers that has no upstream.
        let mut failure = Vec::new();
        http2::write(&mut failure, kind::HEADERS, http2::END_HEADERS | http2::END_STREAM, 3, &[0x88]);
        let error = streams.receive(&failure, &mut meter()).unwrap_err();
        assert!(error.to_string().contains("without message"), "{error}");
    }

    #[test]
    fn calls_wait_for_the_window_of_the_connection() {
        let mut streams = Streams::new(80, true);
        (0..1000).for_each(|_| streams.begin());
        assert_eq!((streams.begun.len(), streams.waiting), (949, 51));
        let update = [0, 0, 4, kind::WINDOW_UPDATE, 0, 0, 0, 0, 0, 0, 0, 0, 138];
        streams.receive(&update, &mut meter()).unwrap();
        assert_eq!((streams.begun.len(), streams.waiting), (951, 49));
    }
}
