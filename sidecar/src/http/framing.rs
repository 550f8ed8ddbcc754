//! Where requests begin and end in what an HTTP/1.1 client sends (RFC 9112), read strictly.
//!
//! Two parties that disagree on where a request ends can be made to see different requests: that is how requests are
//! smuggled. hyper settles what is ambiguous; here it is refused, before hyper sees the end of such a header. So each
//! byte passes here first. Nothing is kept but the line that is being read.

mod chunk;
mod field;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;

#[cfg(test)]
mod tests;

use self::chunk::Chunks;
use self::field::Head;

/// Empty lines that are skipped before a request (RFC 9112 section 2.2).
const MAX_EMPTY_LINES: u32 = 4;

/// What a request may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    /// The size of a header, in bytes, and so that of a line of it.
    pub(super) header_bytes: usize,
    /// Its fields.
    pub(super) fields: usize,
    /// It may be a CONNECT that is passed on.
    pub(super) connect: bool,
}

/// Why a request goes no further; its connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// 400, or what fits better.
    pub(super) status: u16,
    /// For `x-sidecar-reason`.
    pub(super) reason: &'static str,
}

/// Bytes that are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bad {
    /// Why.
    pub(super) refusal: Refusal,
    /// So many of them were whole requests, or the end of one.
    pub(super) before: usize,
}

/// Follows one client's bytes.
#[derive(Debug)]
pub(super) struct Framing {
    bounds: Bounds,
    state: State,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// Headers that came whole.
    heads: u64,
}

#[derive(Debug)]
enum State {
    /// Before a request: so many empty lines.
    Between(u32),
    Head(Head),
    /// So many bytes of a body.
    Sized(u64),
    Chunked(Chunks),
    /// The last request asks for another protocol: what comes next is not known before it is answered.
    Undecided,
    /// Another protocol: bytes.
    Tunnel,
}

/// How a request's body is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Body {
    None,
    Sized(u64),
    Chunked,
}

// === impl Refusal ===

impl Refusal {
    const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }

    /// The answer, in full.
    pub(super) fn answer(self) -> String {
        let phrase = match self.status {
            408 => "Request Timeout",
            414 => "URI Too Long",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            505 => "HTTP Version Not Supported",
            _ => "Bad Request",
        };
        format!(
            "HTTP/1.1 {} {phrase}\r\ncontent-length: 0\r\nconnection: close\r\nx-sidecar-reason: {}\r\n\r\n",
            self.status, self.reason
        )
    }
}

// === impl Framing ===

impl Framing {
    /// Before the first request.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: State::Between(0), line: Vec::new(), heads: 0 }
    }

    /// Takes in what came, and says how much of it may be passed on: all, or what ends a request whose answer decides what the
    /// rest is. After an error nothing may but what was whole before.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Bad> {
        let (mut at, mut before) = (0, 0);
        while at < bytes.len() {
            if matches!(self.state, State::Between(_)) && self.line.is_empty() {
                before = at;
            }
            let rest = &bytes[at..];
            at += match &mut self.state {
                State::Undecided => return Ok(at),
                State::Tunnel => rest.len(),
                State::Sized(left) => {
                    let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Between(0);
                    }
                    taken
                }
                State::Chunked(chunks) if chunks.is_in_data() => chunks.skip(rest.len()),
                State::Between(_) | State::Head(_) | State::Chunked(_) => {
                    self.line(rest).map_err(|refusal| Bad { refusal, before })?
                }
            };
        }
        Ok(at)
    }

    /// The number of the header of which a part has come; `None`: no part has, or all of it.
    pub(super) fn head(&self) -> Option<u64> {
        let begun = matches!(self.state, State::Between(_)) && !self.line.is_empty();
        (begun || matches!(self.state, State::Head(_))).then_some(self.heads)
    }

    /// Between requests.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.state, State::Between(_)) && self.line.is_empty()
    }

    /// Gives up room that is not used.
    pub(super) fn rest(&mut self) {
        self.line.shrink_to_fit();
    }

    /// True while the answer to the last request decides what comes next.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.state, State::Undecided)
    }

    /// The last request was answered: with 101, or otherwise.
    pub(super) fn decide(&mut self, switched: bool) {
        if self.is_undecided() {
            self.state = if switched { State::Tunnel } else { State::Between(0) };
        }
    }

    /// Takes one line, or the beginning of one.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let bound = match self.state {
            State::Chunked(_) => chunk::MAX_LINE,
            _ => self.bounds.header_bytes,
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        if self.line.len() + taken > bound {
            return Err(self.too_long());
        }
        if end.is_none() {
            self.line.extend_from_slice(bytes);
            return Ok(taken);
        }
        if self.line.is_empty() {
            self.whole_line(&bytes[..taken])?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&bytes[..taken]);
            self.whole_line(&line)?;
            // Its room is used again.
            line.clear();
            self.line = line;
        }
        Ok(taken)
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(Refusal::bad("line-without-cr"));
        };
        match &mut self.state {
            State::Between(empty) if text.is_empty() => {
                *empty += 1;
                if *empty > MAX_EMPTY_LINES {
                    return Err(Refusal::bad("empty-lines"));
                }
            }
            State::Between(_) => self.state = State::Head(Head::begin(text, self.bounds)?),
            State::Head(head) if text.is_empty() => {
                let body = head.end()?;
                self.heads += 1;
                self.state = match body {
                    _ if head.asks_to_upgrade() && body == Body::None => State::Undecided,
                    // A body before the switch is legal, and nobody sends one (RFC 9110 section 7.8).
                    _ if head.asks_to_upgrade() => return Err(Refusal::bad("upgrade-with-body")),
                    Body::None | Body::Sized(0) => State::Between(0),
                    Body::Sized(length) => State::Sized(length),
                    Body::Chunked => State::Chunked(Chunks::new(self.bounds)),
                };
            }
            State::Head(head) => head.field(text)?,
            State::Chunked(chunks) => {
                if chunks.line(text)? {
                    self.state = State::Between(0);
                }
            }
            State::Sized(_) | State::Undecided | State::Tunnel => {}
        }
        Ok(())
    }

    fn too_long(&self) -> Refusal {
        match self.state {
            State::Between(_) => Refusal { status: 414, reason: "uri-too-long" },
            State::Head(_) => Refusal { status: 431, reason: "header-too-large" },
            _ => Refusal::bad("chunk-line-too-long"),
        }
    }
}
