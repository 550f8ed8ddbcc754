//! What a client speaks, told from its first bytes, which stay in its socket.

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::sni::{self, Hello};

/// What a connection carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spoken {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 without TLS, known beforehand (RFC 9113 section 3.3).
    Http2,
    /// A TLS handshake.
    Tls,
    /// Anything else, or nothing in time.
    Bytes,
}

/// The client's part of the start of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The record that begins a TLS connection (RFC 8446 section 5.1): a handshake, of any version 3.
const TLS_HANDSHAKE: &[u8] = &[22, 3];
/// So many bytes of empty lines may come first.
const MAX_EMPTY: usize = 4;
/// A request line that is longer is told by its beginning.
pub(crate) const LOOK_AT: usize = 4096;
/// The longest record, with its header (RFC 8446 section 5.1).
pub(crate) const MAX_RECORD: usize = 5 + (1 << 14);
/// Methods that begin HTTP/1 (RFC 9110 section 9, RFC 5789, RFC 4918, RFC 3253, and PURGE). A connection whose first request has
/// another one is carried as bytes.
const METHODS: [&[u8]; 20] = [
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"PATCH",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"QUERY",
    b"PURGE",
];
/// A frame of HTTP/2 (RFC 9113 sections 4.1 and 6.5): its length, its type, no flags, and the connection's own stream.
const FRAME_HEADER: usize = 9;
const SETTINGS: u8 = 4;
/// What has come may not be enough; peeking does not wait for more.
const AGAIN_FIRST: Duration = Duration::from_millis(1);
const AGAIN_AT_MOST: Duration = Duration::from_millis(50);

/// Looks at what the client sends first, and waits for it at most so long; `None`: that is over. Cancel safe: nothing is taken.
pub(crate) async fn spoken(client: &TcpStream, patience: Duration) -> io::Result<Option<Spoken>> {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; LOOK_AT];
    let mut again = AGAIN_FIRST;
    loop {
        let Ok(there) = timeout_at(deadline, client.peek(&mut buffer)).await else {
            return Ok(None);
        };
        let there = there?;
        if let Some(spoken) = told_by(&buffer[..there]) {
            return Ok(Some(spoken));
        }
        let ended = there == 0 || client.ready(Interest::READABLE).await?.is_read_closed();
        if ended {
            return Ok(Some(Spoken::Bytes));
        }
        if Instant::now() + again > deadline {
            return Ok(None);
        }
        sleep(again).await;
        again = (again * 2).min(AGAIN_AT_MOST);
    }
}

/// The name of the server that a TLS client asks for, once it has come; none where it does not come in time.
pub(crate) async fn server_name(client: &TcpStream, patience: Duration) -> io::Result<Option<String>> {
    let deadline = Instant::now() + patience;
    let mut buffer = vec![0; MAX_RECORD];
    let mut again = AGAIN_FIRST;
    loop {
        let Ok(there) = timeout_at(deadline, client.peek(&mut buffer)).await else { return Ok(None) };
        if let Hello::Whole(name) = sni::hello(&buffer[..there?]) {
            return Ok(name);
        }
        if client.ready(Interest::READABLE).await?.is_read_closed() || Instant::now() + again > deadline {
            return Ok(None);
        }
        sleep(again).await;
        again = (again * 2).min(AGAIN_AT_MOST);
    }
}

/// Waits until a server says something before its client does, but for HTTP/2: its servers may send their settings at once
/// (RFC 9113 section 3.4), and say nothing more before the client has spoken. Cancel safe: nothing is taken.
pub(crate) async fn speaks_first(server: &TcpStream) {
    let mut first = [0; FRAME_HEADER];
    match server.peek(&mut first).await {
        Ok(FRAME_HEADER) if first[3] == SETTINGS && first[4..] == [0; 5] => std::future::pending().await,
        // A part of it, the end, or an error: the client is told what comes.
        _ => {}
    }
}

/// What these first bytes are of; `None`: more must come.
pub(crate) fn told_by(bytes: &[u8]) -> Option<Spoken> {
    let begins = |whole: &[u8]| bytes.starts_with(whole) || whole.starts_with(bytes);
    if bytes.is_empty() {
        return None;
    }
    if begins(TLS_HANDSHAKE) {
        return (bytes.len() >= TLS_HANDSHAKE.len()).then_some(Spoken::Tls);
    }
    if begins(PREFACE) {
        return (bytes.len() >= PREFACE.len()).then_some(Spoken::Http2);
    }
    // Empty lines before a request are skipped (RFC 9112 section 2.2).
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = &bytes[empty.min(MAX_EMPTY)..];
    let could_be = |method: &&[u8]| text.starts_with(method) || method.starts_with(text);
    let Some(method) = METHODS.iter().find(|method| could_be(method)) else { return Some(Spoken::Bytes) };
    let target = match text.get(method.len()) {
        None => return None,
        Some(b' ') => &text[method.len() + 1..],
        Some(_) => return Some(Spoken::Bytes),
    };
    match target.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let version = target[..end].trim_ascii_end().rsplit(|byte| *byte == b' ').next();
            let is_http = version.is_some_and(|version| version.starts_with(b"HTTP/"));
            Some(if is_http { Spoken::Http1 } else { Spoken::Bytes })
        }
        None if bytes.len() < LOOK_AT => None,
        None => Some(if target.starts_with(b"/") { Spoken::Http1 } else { Spoken::Bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_as_soon_as_it_is_certain() {
        let cases: &[(&[u8], usize, Spoken)] = &[
            (b"GET / HTTP/1.1\r\n", 16, Spoken::Http1),
            (b"\r\nPOST /a HTTP/1.0\n", 19, Spoken::Http1),
            (b"PROPFIND /dav HTTP/1.1\r\n", 24, Spoken::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, Spoken::Http2),
            (&[22, 3, 1, 2, 0], 2, Spoken::Tls),
            (b"GET key\r\n", 9, Spoken::Bytes),
            (b"GETX / HTTP/1.1\r\n", 4, Spoken::Bytes),
            (b"*1\r\n$4\r\nPING\r\n", 1, Spoken::Bytes),
            (b"PING\r\n", 2, Spoken::Bytes),
            (b"SSH-2.0-x\r\n", 2, Spoken::Bytes),
            (&[0, 0, 0, 8, 4, 210, 22, 47], 1, Spoken::Bytes),
            (b"PRI * HTTP/1.1\r\n\r\n", 12, Spoken::Bytes),
        ];
        for (bytes, needed, spoken) in cases {
            for length in 0..*needed {
                assert_eq!(told_by(&bytes[..length]), None, "{length} of {bytes:?}");
            }
            assert_eq!(told_by(&bytes[..*needed]), Some(*spoken), "{bytes:?}");
            assert_eq!(told_by(bytes), Some(*spoken), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_line_is_told_by_its_beginning() {
        let line = [&b"GET /"[..], &[b'a'; LOOK_AT]].concat();
        assert_eq!(told_by(&line[..LOOK_AT - 1]), None);
        assert_eq!(told_by(&line[..LOOK_AT]), Some(Spoken::Http1));
    }
}
