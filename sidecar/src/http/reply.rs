//! Answers that the proxy itself gives.

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode, Version};

use super::body::Flow;
use super::headers::REASON;

/// Why the proxy answers itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    /// The status.
    pub status: StatusCode,
    /// For `x-sidecar-reason` and the access log.
    pub reason: &'static str,
    /// Envoy's response flags.
    pub flags: &'static str,
}

impl Reply {
    pub(super) const fn new(status: StatusCode, reason: &'static str, flags: &'static str) -> Self {
        Self { status, reason, flags }
    }

    /// As an answer; to gRPC in its own terms.
    pub(super) fn response(self, grpc: bool) -> Response<Flow> {
        let mut response = Response::new(Flow::empty());
        let headers = response.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(self.reason));
        if grpc {
            // An answer without a body has its trailers in the header ("Trailers-Only",
            // https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(grpc_status(self.status)));
            headers.insert("grpc-message", HeaderValue::from_static(self.reason));
        } else {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            *response.status_mut() = self.status;
        }
        response
    }
}

/// A request of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// gRPC's status for one of HTTP's (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
pub(super) fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// How a version is called.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
