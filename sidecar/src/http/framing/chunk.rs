//! The chunks of a body (RFC 9112 section 7.1).

use super::field::split;
use super::{Bounds, Refusal};

/// The longest line with a chunk's size, or in a trailer.
pub(super) const MAX_LINE: usize = 8 * 1024;
/// Hexadecimal digits of a chunk's size.
const MAX_DIGITS: usize = 15;

/// Chunks that are being read.
#[derive(Debug)]
pub(super) struct Chunks {
    bounds: Bounds,
    part: Part,
    trailer_bytes: usize,
    trailers: usize,
}

#[derive(Debug)]
enum Part {
    Size,
    Data(u64),
    /// The end of a chunk's data.
    End,
    Trailer,
}

impl Chunks {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, part: Part::Size, trailer_bytes: 0, trailers: 0 }
    }

    pub(super) fn is_in_data(&self) -> bool {
        matches!(self.part, Part::Data(_))
    }

    /// Takes data of a chunk, of which so many bytes are there, and returns how many of them are its.
    pub(super) fn skip(&mut self, there: usize) -> usize {
        let Part::Data(left) = &mut self.part else { return 0 };
        let taken = there.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= taken as u64;
        if *left == 0 {
            self.part = Part::End;
        }
        taken
    }

    /// Reads a line, without its end. True: it was the last of the body.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<bool, Refusal> {
        match self.part {
            Part::Size => {
                self.part = match size(line)? {
                    0 => Part::Trailer,
                    size => Part::Data(size),
                };
            }
            Part::End if line.is_empty() => self.part = Part::Size,
            Part::End | Part::Data(_) => return Err(Refusal::bad("chunk-end")),
            Part::Trailer if line.is_empty() => return Ok(true),
            Part::Trailer => self.trailer(line)?,
        }
        Ok(false)
    }

    fn trailer(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.trailers += 1;
        self.trailer_bytes += line.len();
        if self.trailers > self.bounds.fields || self.trailer_bytes > self.bounds.header_bytes {
            return Err(Refusal { status: 431, reason: "trailers-too-large" });
        }
        let (name, _) = split(line)?;
        // What frames or routes a message does not belong here (RFC 9110 section 6.5.1).
        let forbidden = [&b"content-length"[..], b"transfer-encoding", b"host", b"connection", b"upgrade"];
        if forbidden.iter().any(|one| name.eq_ignore_ascii_case(one)) {
            return Err(Refusal::bad("trailer-name"));
        }
        Ok(())
    }
}

/// `chunk-size [ chunk-ext ]`
fn size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (number, extension) = line.split_at(digits);
    if !(1..=MAX_DIGITS).contains(&digits) {
        return Err(Refusal::bad("chunk-size"));
    }
    let begins = extension.first().is_none_or(|byte| *byte == b';');
    if !begins || extension.iter().any(|byte| matches!(byte, 0..=8 | 0x0a..=0x1f | 0x7f)) {
        return Err(Refusal::bad("chunk-extension"));
    }
    let parsed = std::str::from_utf8(number).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    parsed.ok_or(Refusal::bad("chunk-size"))
}
