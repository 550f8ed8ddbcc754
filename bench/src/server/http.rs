//! A connection that speaks HTTP: what has come, what is to be sent, and no socket.

use crate::case::SMALL;
use crate::{grpc, http1, http2};

/// A connection's state. What it speaks is told by its first bytes.
pub(super) struct Http {
    /// Requests of HTTP/2 are calls of gRPC.
    grpc: bool,
    input: Vec<u8>,
    version: Version,
    /// Bytes to be sent.
    pub(super) output: Vec<u8>,
    answer: Vec<u8>,
}

enum Version {
    Unknown,
    Http1,
    Http2 {
        /// What the client lets this side send.
        window: u64,
        /// Streams whose answers wait for it.
        waiting: Vec<u32>,
    },
}

impl Http {
    pub(super) fn new(grpc: bool) -> Self {
        let (version, answer) = (Version::Unknown, http1::answer());
        Self { grpc, input: Vec::new(), version, output: Vec::new(), answer }
    }

    /// These bytes came; answers to them are in `output` then. False when no more can come before they are sent: so nothing is
    /// read in vain.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> bool {
        self.input.extend_from_slice(bytes);
        if matches!(self.version, Version::Unknown) {
            if self.input.starts_with(http2::PREFACE) {
                self.input.drain(..http2::PREFACE.len());
                http2::server_begins(&mut self.output);
                self.version = Version::Http2 { window: http2::WINDOW.into(), waiting: Vec::new() };
            } else if !http2::PREFACE.starts_with(&self.input) {
                self.version = Version::Http1;
            }
        }
        match &mut self.version {
            Version::Http1 if http1::is_request(&self.input) => {
                self.input.clear();
                self.output.extend_from_slice(&self.answer);
                return false;
            }
            Version::Unknown | Version::Http1 => {}
            Version::Http2 { window, waiting } => {
                let mut rest = self.input.as_slice();
                while let Some(frame) = http2::Frame::take(&mut rest) {
                    frame.acknowledge(&mut self.output);
                    if frame.ends_stream() {
                        waiting.push(frame.stream);
                    }
                    if frame.kind == http2::kind::WINDOW_UPDATE && frame.stream == 0 {
                        *window += u64::from(frame.increment());
                    }
                }
                let read = self.input.len() - rest.len();
                self.input.drain(..read);
                let (each, answer): (u64, fn(&mut Vec<u8>, u32)) = if self.grpc {
                    (grpc::MESSAGE.len() as u64, grpc::answer)
                } else {
                    (SMALL as u64, http2::answer)
                };
                let now = waiting.len().min(usize::try_from(*window / each).unwrap_or(usize::MAX));
                *window -= now as u64 * each;
                waiting.drain(..now).for_each(|stream| answer(&mut self.output, stream));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::{Frame, kind};

    #[test]
    fn http1_is_answered_once_a_request_is_there() {
        let mut http = Http::new(false);
        let request = http1::request(80, None);
        let (first, last) = request.split_at(10);
        assert!(http.receive(first) && http.output.is_empty());
        assert!(!http.receive(last));
        assert_eq!(http1::length(&http.output).unwrap(), Some(http.output.len()));
    }

    #[test]
    fn http2_is_answered_as_far_as_the_window_allows() {
        let mut http = Http::new(false);
        let mut input = http2::PREFACE.to_vec();
        for stream in 0..1100 {
            http2::request(&mut input, 2 * stream + 1, &http2::request_block(80));
        }
        // Cut anywhere.
        assert!(input.chunks(1000).all(|chunk| http.receive(chunk)));
        let count = |mut bytes: &[u8]| {
            std::iter::from_fn(move || Frame::take(&mut bytes))
                .filter(|frame| frame.kind == kind::DATA)
                .count()
        };
        assert_eq!(count(&http.output), 1023);
        let update = [0, 0, 4, kind::WINDOW_UPDATE, 0, 0, 0, 0, 0, 0, 0, 255, 255];
        http.receive(&update);
        assert_eq!(count(&http.output), 1100);
    }

    #[test]
    fn a_call_is_answered_once_its_message_is_there() {
        let mut http = Http::new(true);
        let mut input = http2::PREFACE.to_vec();
        grpc::request(&mut input, 1, &grpc::request_block(80));
        let (first, last) = input.split_at(input.len() - 1);
        http.receive(first);
        http.output.clear();
        http.receive(last);
        let mut answer = Vec::new();
        grpc::answer(&mut answer, 1);
        assert_eq!(http.output, answer);
    }
}
