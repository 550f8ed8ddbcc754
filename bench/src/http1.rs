//! As much of HTTP/1.1 (RFC 9112) as client and server need: requests without a body, answers with a known length.

use std::io::{Error, ErrorKind, Result};

use crate::case::SMALL;

/// What ends a header.
const END: &[u8] = b"\r\n\r\n";

/// The only request; with a token, if there is one.
pub(crate) fn request(port: u16, token: Option<&str>) -> Vec<u8> {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET /small HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n{token}\r\n").into_bytes()
}

/// The only answer.
pub(crate) fn answer() -> Vec<u8> {
    let body = "x".repeat(SMALL);
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {SMALL}\r\n\r\n{body}")
        .into_bytes()
}

/// Whether a request without a body is complete. Nobody pipelines here: after a header comes nothing until it is answered.
pub(crate) fn is_request(bytes: &[u8]) -> bool {
    bytes.ends_with(END)
}

/// The length of an answer of which these are the first bytes; None when its header has more. Anything but status 200 and a
/// stated length is an error.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(END.len()).position(|window| window == END) else { return Ok(None) };
    let header = &bytes[..end];
    if header.get(8..13) != Some(b" 200 ") {
        return Err(unexpected(header));
    }
    let mut fields = header.split(|&byte| byte == b'\n').skip(1);
    let body = fields.find_map(content_length).ok_or_else(|| unexpected(header))?;
    Ok(Some(end + END.len() + body))
}

fn content_length(field: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = field.split_at_checked(NAME.len())?;
    let is_it = name.eq_ignore_ascii_case(NAME);
    is_it.then(|| std::str::from_utf8(value).ok()?.trim().parse().ok()).flatten()
}

fn unexpected(header: &[u8]) -> Error {
    Error::new(ErrorKind::InvalidData, format!("answered {:?}", String::from_utf8_lossy(header)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_understood_wherever_it_is_cut() {
        let answer = answer();
        let header = answer.len() - SMALL;
        for cut in 0..=answer.len() {
            let expected = (cut >= header).then_some(answer.len());
            assert_eq!(length(&answer[..cut]).unwrap(), expected, "{cut}");
        }
    }

    #[test]
    fn proxies_add_fields_and_change_their_spelling() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length:5\r\nserver: a\r\n\r\nhello";
        assert_eq!(length(answer).unwrap(), Some(answer.len()));
    }

    #[test]
    fn what_is_no_success_is_an_error() {
        let refused = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert!(length(refused).unwrap_err().to_string().contains("503"));
        assert!(length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_ends_with_an_empty_line() {
        for request in [request(80, None), request(80, Some("token"))] {
            assert!(is_request(&request) && !is_request(&request[..request.len() - 1]));
        }
    }
}
