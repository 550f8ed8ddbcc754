//! The header of a request: its first line, its fields, and what they say of the body (RFC 9112 sections 3, 5 and 6).

use super::{Body, Bounds, Refusal};

/// A header that is being read.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub(super) struct Head {
    bounds: Bounds,
    bytes: usize,
    fields: usize,
    /// HTTP/1.0 knows neither chunks nor a Host that must be there.
    is_1_0: bool,
    connect: bool,
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
}

impl Head {
    /// Reads the first line, without its end.
    pub(super) fn begin(line: &[u8], bounds: Bounds) -> Result<Self, Refusal> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::bad("request-line"));
        };
        if method.is_empty() || !method.iter().copied().all(is_token) {
            return Err(Refusal::bad("method"));
        }
        if target.is_empty() || !target.iter().all(|byte| matches!(byte, 0x21..=0x7e | 0x80..)) {
            return Err(Refusal::bad("request-target"));
        }
        let is_1_0 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ if version.starts_with(b"HTTP/") => {
                return Err(Refusal { status: 505, reason: "http-version" });
            }
            _ => return Err(Refusal::bad("http-version")),
        };
        Ok(Self {
            bounds,
            bytes: line.len() + 2,
            fields: 0,
            is_1_0,
            connect: method == b"CONNECT",
            hosts: 0,
            length: None,
            chunked: false,
            upgrade: false,
            connection_upgrade: false,
        })
    }

    /// Reads one field line, without its end.
    pub(super) fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.bytes += line.len() + 2;
        self.fields += 1;
        if self.bytes > self.bounds.header_bytes {
            return Err(Refusal { status: 431, reason: "header-too-large" });
        }
        if self.fields > self.bounds.fields {
            return Err(Refusal { status: 431, reason: "too-many-headers" });
        }
        let (name, value) = split(line)?;
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        // Few names are of these lengths.
        match name.len() {
            4 if is(b"host") => self.hosts += 1,
            7 if is(b"upgrade") => self.upgrade = true,
            10 if is(b"connection") => self.connection_upgrade |= has_word(value, b"upgrade"),
            14 if is(b"content-length") => self.length(value)?,
            17 if is(b"transfer-encoding") => self.coding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // The same length twice is allowed to a proxy that mends it (RFC 9110 section 8.6); we refuse.
        if self.length.is_some() {
            return Err(Refusal::bad("content-length-repeated"));
        }
        let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        self.length = Some(number.ok_or(Refusal::bad("content-length"))?);
        Ok(())
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::bad("transfer-encoding-repeated"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            // RFC 9112 section 6.1: a coding that is not understood; one that is not the last is no framing at all.
            let status = if has_word(value, b"chunked") { 400 } else { 501 };
            return Err(Refusal { status, reason: "transfer-encoding" });
        }
        self.chunked = true;
        Ok(())
    }

    /// The header is complete.
    pub(super) fn end(&self) -> Result<Body, Refusal> {
        if self.hosts > 1 || self.hosts == 0 && !self.is_1_0 {
            return Err(Refusal::bad("host"));
        }
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Refusal::bad("content-length-with-transfer-encoding")),
            (None, true) if self.is_1_0 => Err(Refusal::bad("transfer-encoding-in-http-1.0")),
            (None, true) => Ok(Body::Chunked),
            (Some(length), false) => Ok(Body::Sized(length)),
            (None, false) => Ok(Body::None),
        }
    }

    /// The client would speak another protocol on this connection.
    pub(super) fn asks_to_upgrade(&self) -> bool {
        let connects = self.connect && self.bounds.connect;
        (connects || self.upgrade && self.connection_upgrade) && !self.is_1_0
    }
}

/// Name and value of a field line, which hides nothing (RFC 9112 section 5.1): no folding, no space before the colon, no
/// control characters.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Err(Refusal::bad("folded-header"));
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err(Refusal::bad("header-without-colon"));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Refusal::bad("header-name"));
    }
    if value.iter().any(|byte| matches!(byte, 0..=8 | 0x0a..=0x1f | 0x7f)) {
        return Err(Refusal::bad("header-value"));
    }
    Ok((name, value.trim_ascii()))
}

/// The list has this word (RFC 9110 section 5.6.1).
fn has_word(list: &[u8], word: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(word))
}

/// tchar (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
