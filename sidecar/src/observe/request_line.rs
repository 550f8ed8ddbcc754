//! A request as the access log has it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::connection::printable;
use super::recorded::Recorded;
use crate::net::addrs::Direction;

/// A request that is over.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestLine {
    /// The connection's id.
    pub connection: u64,
    /// The name of the instance that served it.
    pub instance: Arc<str>,
    /// Seen from the program.
    #[serde(serialize_with = "as_str")]
    pub direction: Direction,
    /// Who sent it.
    pub source: SocketAddr,
    /// Where its connection was meant to go.
    pub original_destination: Option<SocketAddr>,
    /// Its method.
    pub method: String,
    /// Its `Host` or `:authority`.
    pub host: Option<String>,
    /// Its target's path and query.
    pub path: String,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: String,
    /// The route and rule.
    pub route: Arc<str>,
    /// The backend.
    pub backend: Arc<str>,
    /// The endpoint that answered, or was asked last.
    pub endpoint: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
    /// The status of the answer; 0: none came.
    pub status: u16,
    /// The status that gRPC gave, where it did.
    pub grpc_status: Option<u32>,
    /// Envoy's response flags.
    pub flags: Option<&'static str>,
    /// Why the proxy itself answered.
    pub reason: Option<&'static str>,
    /// From its header to the end of its answer, in milliseconds.
    pub duration_ms: f64,
    /// From its header to the answer's.
    pub response_ms: Option<f64>,
    /// The size of its body.
    pub request_bytes: u64,
    /// The size of the answer's.
    pub response_bytes: u64,
    /// `x-request-id`.
    pub request_id: Option<String>,
    /// The trace's id, of `traceparent`.
    pub trace_id: Option<String>,
    /// `user-agent`.
    pub user_agent: Option<String>,
    /// Its fields and the beginning of bodies, where that is asked for.
    #[serde(flatten)]
    pub recorded: Option<Box<Recorded>>,
}

impl RequestLine {
    /// For people.
    pub fn as_text(&self) -> String {
        format!(
            "{} {} \"{} {} {}\" {} host={} route={} backend={} endpoint={} attempts={} sent={} received={} duration={:.1}ms \
             flags={} reason={} id={}",
            self.direction.as_str(),
            self.source,
            printable(&self.method),
            printable(&self.path),
            self.protocol,
            self.status,
            printable(self.host.as_deref().unwrap_or("-")),
            printable(&self.route),
            printable(&self.backend),
            self.endpoint.as_deref().unwrap_or("-"),
            self.attempts,
            self.request_bytes,
            self.response_bytes,
            self.duration_ms,
            self.flags.unwrap_or("-"),
            self.reason.unwrap_or("-"),
            printable(self.request_id.as_deref().unwrap_or("-")),
        )
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_str<S: serde::Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(direction.as_str())
}
