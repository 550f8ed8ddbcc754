//! Names of headers.

use hyper::header::HeaderName;

/// Why a text is not the name of a header that may be named here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum HeaderError {
    #[error("write the name of a header, such as x-user")]
    Malformed,
    #[error("belongs to the connection or frames the message; write another header")]
    Reserved,
}

/// What says how a message is framed and routed, or is of one hop only (RFC 9110, section 7.6.1).
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads a name, in any case.
pub(in crate::config) fn parse(text: &str) -> Result<HeaderName, HeaderError> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| HeaderError::Malformed)
}

/// Reads the name of a header that may be copied from one message to another.
pub(in crate::config) fn parse_copied(text: &str) -> Result<HeaderName, HeaderError> {
    let name = parse(text)?;
    if RESERVED.contains(&name.as_str()) { Err(HeaderError::Reserved) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_not_copied() {
        assert_eq!(parse_copied("X-User").map(|name| name.to_string()), Ok("x-user".to_owned()));
        assert_eq!(parse_copied("Content-Length"), Err(HeaderError::Reserved));
        assert_eq!(parse_copied("x user"), Err(HeaderError::Malformed));
        assert!(parse("Host").is_ok());
    }
}
