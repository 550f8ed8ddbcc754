//! As much of HTTP/2 (RFC 9113) as client and server need: frames, and header blocks that use no dynamic table (RFC 7541).

use std::io::{Error, ErrorKind, Result};

use crate::case::SMALL;

/// What a client sends first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The window of a connection before anything is said about it.
pub(crate) const WINDOW: u32 = 65535;

/// Windows that no measurement uses up.
const WIDE: u32 = 1 << 30;

/// Types of frames (section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
}

/// Of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

const MAX_CONCURRENT_STREAMS: u8 = 3;
const INITIAL_WINDOW_SIZE: u8 = 4;

const HEAD: usize = 9;

/// A frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the next frame from `bytes`; None when it is not all there.
    pub(crate) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (&[a, b, c, kind, flags, s0, s1, s2, s3], _) = bytes.split_first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = bytes.get(HEAD..HEAD + length)?;
        *bytes = &bytes[HEAD + length..];
        Some(Self { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) & !(1 << 31), payload })
    }

    /// Whether the sender's half of the stream ends with it.
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }

    /// The increment of a WINDOW_UPDATE.
    pub(crate) fn increment(&self) -> u32 {
        self.payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// What must be answered at once, is: settings and pings.
    pub(crate) fn acknowledge(&self, out: &mut Vec<u8>) {
        match self.kind {
            kind::SETTINGS if self.flags & ACK == 0 => write(out, kind::SETTINGS, ACK, 0, &[]),
            kind::PING if self.flags & ACK == 0 => write(out, kind::PING, ACK, 0, self.payload),
            _ => {}
        }
    }

    /// HEADERS must say status 200: as RFC 7541 has it in its static table, first, after what resizes the dynamic one.
    pub(crate) fn check_status(&self) -> Result<()> {
        let skip = usize::from(self.flags & PADDED != 0) + if self.flags & PRIORITY != 0 { 5 } else { 0 };
        let mut block = self.payload.get(skip..).unwrap_or_default();
        while let [first @ 0x20..=0x3f, rest @ ..] = block {
            let more = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
            block = if *first == 0x3f { rest.get(more..).unwrap_or_default() } else { rest };
        }
        if block.first() == Some(&0x88) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidData, format!("answered a header of {block:02x?}")))
    }
}

/// The client's first bytes, from the preface to windows that never fill.
pub(crate) fn client_begins(out: &mut Vec<u8>) {
    out.extend_from_slice(PREFACE);
    settings(out, INITIAL_WINDOW_SIZE, WIDE);
    widen(out);
}

/// The server's.
pub(crate) fn server_begins(out: &mut Vec<u8>) {
    settings(out, MAX_CONCURRENT_STREAMS, 1000);
    widen(out);
}

/// The only request's header block.
pub(crate) fn request_block(port: u16) -> Vec<u8> {
    // GET, http, / of the static table; then :authority.
    let mut block = vec![0x82, 0x86, 0x84, 0x01];
    text(&mut block, &format!("127.0.0.1:{port}"));
    block
}

/// The request on `stream`.
pub(crate) fn request(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    write(out, kind::HEADERS, END_STREAM | END_HEADERS, stream, block);
}

/// The only answer, on `stream`.
pub(crate) fn answer(out: &mut Vec<u8>, stream: u32) {
    // Status 200 of the static table, then content-length, its 28th name.
    const BLOCK: [u8; 6] = [0x88, 0x0f, 0x0d, 2, b'6', b'4'];
    const { assert!(SMALL == 64) };
    write(out, kind::HEADERS, END_HEADERS, stream, &BLOCK);
    write(out, kind::DATA, END_STREAM, stream, &[b'x'; SMALL]);
}

fn settings(out: &mut Vec<u8>, setting: u8, value: u32) {
    let mut payload = vec![0, setting];
    payload.extend(value.to_be_bytes());
    write(out, kind::SETTINGS, 0, 0, &payload);
}

/// The window of the connection.
fn widen(out: &mut Vec<u8>) {
    write(out, kind::WINDOW_UPDATE, 0, 0, &WIDE.to_be_bytes());
}

/// A name or value of a header block, whose length must fit into seven bits (RFC 7541, section 5.2).
pub(crate) fn text(block: &mut Vec<u8>, text: &str) {
    block.push(u8::try_from(text.len()).unwrap_or_default() & 0x7f);
    block.extend_from_slice(text.as_bytes());
}

/// A frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // Frames here are far below the 16 KiB that any peer takes.
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        let mut out = Vec::new();
        answer(&mut out, 7);
        let mut rest = out.as_slice();
        let header = Frame::take(&mut rest).unwrap();
        assert!(header.stream == 7 && header.kind == kind::HEADERS && !header.ends_stream());
        header.check_status().unwrap();
        assert_eq!(Frame::take(&mut &rest[..rest.len() - 1]), None);
        let data = Frame::take(&mut rest).unwrap();
        assert!(data.ends_stream() && data.payload.len() == SMALL && rest.is_empty());
    }

    #[test]
    fn only_status_200_is_taken_also_after_a_resized_table() {
        let check = |payload: &[u8]| {
            Frame { kind: kind::HEADERS, flags: END_HEADERS, stream: 1, payload }.check_status()
        };
        assert!(check(&[0x20, 0x3f, 0xe1, 0x1f, 0x88]).is_ok());
        assert!(check(&[0x8d]).is_err() && check(&[]).is_err());
    }

    #[test]
    fn pings_and_settings_are_acknowledged_once() {
        let mut out = Vec::new();
        server_begins(&mut out);
        let mut ack = Vec::new();
        Frame::take(&mut out.as_slice()).unwrap().acknowledge(&mut ack);
        assert_eq!(ack, [0, 0, 0, kind::SETTINGS, ACK, 0, 0, 0, 0]);
        let mut none = Vec::new();
        Frame::take(&mut ack.as_slice()).unwrap().acknowledge(&mut none);
        assert!(none.is_empty());
    }
}
