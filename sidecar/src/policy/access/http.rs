//! The client by which authorizers and key sets are asked.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub(super) type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// How many connections wait for their next request. What is open at a time is bounded by the requests that ask.
const MAX_IDLE: usize = 32;
/// Shorter than servers commonly keep connections, so that they rarely close one as we use it.
const IDLE: Duration = Duration::from_secs(4);

/// Who asks has a shorter timeout; this one is for connections that nobody waits for any more.
const CONNECT: Duration = Duration::from_secs(5);

/// A client with connections of its own.
pub(super) fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MAX_IDLE);
    builder.build(connector)
}

/// The body of an answer, unless it is longer than `max` bytes or breaks off.
pub(super) async fn body(
    body: Incoming,
    max: usize,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Limited::new(body, max).collect().await?.to_bytes())
}
