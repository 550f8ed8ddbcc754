//! The client by which authorizers and key sets are asked.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::tls::TlsClient;

/// A client with connections of its own.
pub(super) enum HttpClient {
    /// For http.
    Plain(Client<HttpConnector, Empty<Bytes>>),
    /// For https.
    Tls(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
}

/// Displays as an error and what led to it.
pub(super) struct Causes<'a>(pub &'a (dyn std::error::Error + 'static));

/// How many connections wait for their next request. What is open at a time is bounded by the requests that ask.
const MAX_IDLE: usize = 32;
/// Shorter than servers commonly keep connections, so that they rarely close one as we use it.
const IDLE: Duration = Duration::from_secs(4);

/// Who asks has a shorter timeout; this one is for connections that nobody waits for any more.
const CONNECT: Duration = Duration::from_secs(5);

// === impl ===

impl HttpClient {
    /// For https with `tls`, else for http.
    pub(super) fn new(tls: Option<&TlsClient>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MAX_IDLE);
        match tls {
            None => Self::Plain(builder.build(connector)),
            Some(tls) => {
                connector.enforce_http(false);
                Self::Tls(builder.build(HttpsConnector::from((connector, tls.config()))))
            }
        }
    }

    pub(super) async fn request(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        }
    }
}

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

/// The body of an answer, unless it is longer than `max` bytes or breaks off.
pub(super) async fn body(
    body: Incoming,
    max: usize,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Limited::new(body, max).collect().await?.to_bytes())
}
