//! Values that only traffic policies have.

use clap::ValueEnum;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery};

/// Why a text is not such a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum WordError {
    #[error("write a header's name, such as x-user")]
    HeaderName,
    #[error("write a header's value: visible characters, spaces and tabs")]
    HeaderValue,
    #[error("write a cookie's name of up to 256 letters, digits and !#$%&'*+-.^_`|~")]
    Cookie,
    #[error("write a path with a leading slash, such as /healthz")]
    Path,
    #[error("write a host, such as app.example.com")]
    Host,
    #[error("write a claim's name of 1 to 256 characters, such as sub")]
    Claim,
    #[error("write a gRPC status from 0 to 16, or its name, such as UNAVAILABLE")]
    GrpcStatus,
    #[error("write a service's full name of up to 256 characters, such as example.v1.Reviews")]
    Service,
}

/// How long a name may be, in bytes.
const MAX_NAME: usize = 256;

/// The names of gRPC statuses from 0 on.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The one word that `source` may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Source {
    /// The client's address.
    Address,
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, WordError> {
    text.parse().map_err(|_| WordError::HeaderName)
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, WordError> {
    text.parse().map_err(|_| WordError::HeaderValue)
}

/// A cookie's name is a token (RFC 6265, section 4.1.1), as a header's name is, but its case counts.
pub(super) fn cookie(text: &str) -> Result<String, WordError> {
    let token = HeaderName::from_bytes(text.as_bytes()).is_ok() && text.len() <= MAX_NAME;
    if token { Ok(text.to_owned()) } else { Err(WordError::Cookie) }
}

pub(super) fn path(text: &str) -> Result<PathAndQuery, WordError> {
    if text.starts_with('/') { text.parse().map_err(|_| WordError::Path) } else { Err(WordError::Path) }
}

pub(super) fn host(text: &str) -> Result<Authority, WordError> {
    let authority: Authority = text.parse().map_err(|_| WordError::Host)?;
    if text.contains('@') { Err(WordError::Host) } else { Ok(authority) }
}

pub(super) fn claim(text: &str) -> Result<String, WordError> {
    if text.is_empty() || text.len() > MAX_NAME { Err(WordError::Claim) } else { Ok(text.to_owned()) }
}

pub(super) fn service(text: &str) -> Result<String, WordError> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && text.len() <= MAX_NAME { Ok(text.to_owned()) } else { Err(WordError::Service) }
}

pub(super) fn grpc_status(text: &str) -> Result<u8, WordError> {
    let number = |n: usize| u8::try_from(n).ok().filter(|_| n < GRPC.len() && text == n.to_string());
    let named = |n: usize| u8::try_from(n).ok().filter(|_| GRPC.get(n) == Some(&text));
    (0..GRPC.len()).find_map(|n| number(n).or_else(|| named(n))).ok_or(WordError::GrpcStatus)
}
