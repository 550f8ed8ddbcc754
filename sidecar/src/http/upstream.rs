//! Connections to upstreams, and sending requests over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::body::Flow;
use super::client::Client;
use super::line::Place;
use super::own::OwnConnection;
use super::pool::Pooled;
use super::reply::Reply;
use super::{Version, pool};
use crate::bypass::hop::Hop;
use crate::connection::Sockets;
use crate::net::io::{Io, Socket};
use crate::observe::close_reason::CloseReason;
use crate::policy::circuit::Permit;
use crate::policy::retry::Outcome;
use crate::tls;
use crate::upstream::balance::load::InFlight;

/// Sends requests over one connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<Flow>),
    Http2(http2::SendRequest<Flow>),
}

/// A connection while a request uses it.
pub(super) enum Lease {
    /// The client's own.
    Own(OwnConnection, Arc<Client>),
    /// One of an endpoint's.
    Pooled {
        connection: Pooled,
        _in_flight: InFlight,
        /// Its place among the requests that the cluster takes at once.
        permit: Option<Permit>,
    },
}

/// An answer, and the connection that it comes from.
pub(super) struct Sent {
    pub response: Response<Incoming>,
    pub lease: Option<Lease>,
}

/// A request that came to nothing.
pub(super) struct Unsent {
    /// How, for who decides whether to try again.
    pub outcome: Outcome,
    /// What the client is told if nobody does.
    pub reply: Reply,
    /// The endpoint is to blame, not its client or we.
    pub is_theirs: bool,
}

/// The upstream's socket, as hyper's.
pub(super) struct UpstreamSocket {
    which: Which,
    unflushed: AtomicBool,
}

enum Which {
    /// The one of the client's connection that was dialled first.
    First(Arc<Sockets>, Arc<TcpStream>),
    /// A later one. Its hop is dropped first: the kernel half forgets what it counted as a socket closes.
    Later(Option<Box<Hop>>, TcpStream),
}

// === impl ===

impl Lease {
    /// Of an endpoint.
    pub(super) fn pooled(connection: Pooled, in_flight: InFlight) -> Self {
        Self::Pooled { connection, _in_flight: in_flight, permit: None }
    }

    /// The request counts until its answer is over.
    pub(super) fn hold(&mut self, held: Option<Permit>) {
        if let Self::Pooled { permit, .. } = self {
            *permit = held;
        }
    }

    /// All of the answer came: the connection can serve the next request.
    pub(super) fn give_back(self) {
        match self {
            Self::Own(own, client) => own.give_back(&client),
            Self::Pooled { connection, .. } => pool::give_back(connection),
        }
    }
}

impl Sender {
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until the connection has room for a request. False: it is closed.
    pub(super) async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    pub(super) async fn try_send(
        &mut self,
        request: Request<Flow>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Flow>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

impl UpstreamSocket {
    /// The one that was dialled for the client's connection before it was known what it speaks.
    pub(super) fn first(sockets: &Arc<Sockets>, stream: Arc<TcpStream>) -> Self {
        Self { which: Which::First(Arc::clone(sockets), stream), unflushed: AtomicBool::new(false) }
    }

    /// Another one.
    pub(super) fn later(stream: TcpStream, hop: Option<Hop>) -> Self {
        Self { which: Which::Later(hop.map(Box::new), stream), unflushed: AtomicBool::new(false) }
    }

    /// Nothing waits to be written.
    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed.load(Ordering::Relaxed)
    }
}

impl Socket for UpstreamSocket {
    fn stream(&self) -> &TcpStream {
        match &self.which {
            Which::First(_, stream) => stream,
            Which::Later(_, stream) => stream,
        }
    }

    fn read(&self, bytes: usize) {
        self.wrote(bytes);
    }

    fn wrote(&self, bytes: usize) {
        match &self.which {
            _ if bytes == 0 => {}
            Which::First(sockets, _) => sockets.upstream_message(),
            Which::Later(hop, stream) => {
                if let Some(hop) = hop {
                    hop.message(stream);
                }
            }
        }
    }

    fn unflushed(&self) -> &AtomicBool {
        &self.unflushed
    }
}

/// A request that may be sent twice: a safe one without a body.
pub(super) fn copy(request: &Request<Flow>) -> Option<Request<Flow>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if !safe || !hyper::body::Body::is_end_stream(request.body()) {
        return None;
    }
    let mut copy = Request::new(Flow::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Begins to speak on a connection, whose place is held while it is open. The task ends with the connection.
pub(super) async fn handshake<T>(
    io: T,
    version: Version,
    place: Option<Arc<Place>>,
) -> Result<(Sender, JoinHandle<()>), CloseReason>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(io);
    let broken = |error: hyper::Error| {
        tracing::debug!(%error, "upstream");
        CloseReason::UpstreamReset
    };
    match version {
        Version::Http1 => {
            let (sender, connection) = http1::handshake(io).await.map_err(broken)?;
            let driver = tokio::spawn(async move {
                let _place = place;
                let _ = connection.with_upgrades().await.map_err(broken);
            });
            Ok((Sender::Http1(sender), driver))
        }
        Version::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) =
                builder.timer(TokioTimer::new()).handshake(io).await.map_err(broken)?;
            let driver = tokio::spawn(async move {
                let _place = place;
                let _ = connection.await.map_err(broken);
            });
            Ok((Sender::Http2(sender), driver))
        }
    }
}

/// The upstream could not be reached.
pub(super) fn failed(reason: CloseReason) -> Reply {
    let unavailable = |reason, flags| Reply::new(StatusCode::SERVICE_UNAVAILABLE, reason, flags);
    match reason {
        CloseReason::ConnectRefused => unavailable("upstream-connect-refused", "UF"),
        CloseReason::ConnectTimeout => unavailable("upstream-connect-timeout", "UF"),
        CloseReason::Unreachable => unavailable("upstream-unreachable", "UF"),
        CloseReason::LimitReached => unavailable("limit-reached", "UO"),
        CloseReason::Loop => unavailable("loop", "NR"),
        CloseReason::NoOriginalDestination => unavailable("no-original-destination", "NR"),
        CloseReason::UpstreamReset => unavailable("upstream-reset", "UC"),
        _ => unavailable("upstream-connect-failed", "UF"),
    }
}

/// It was reached, and is not whom we want to speak to, or does not want to speak to us.
pub(super) fn tls_failed() -> Reply {
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, "upstream-tls-failed", "UF")
}

/// A new connection's socket, as hyper's.
pub(super) fn io(
    stream: TcpStream,
    hop: Option<Hop>,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    Io(Arc::new(UpstreamSocket::later(stream, hop)))
}

/// How a request came to nothing on a connection that was there.
pub(super) fn unsent<T>(error: &TrySendError<T>) -> Unsent {
    let error = error.error();
    if error.is_user() {
        // The client's body ended before it was whole.
        let reply = Reply::new(StatusCode::BAD_REQUEST, "request-body", "DC");
        return Unsent { outcome: Outcome::Reset, reply, is_theirs: false };
    }
    let outcome = if error.is_canceled() { Outcome::ResetBeforeRequest } else { Outcome::Reset };
    Unsent { outcome, reply: broken(error), is_theirs: true }
}

/// It was reached, and did not answer.
pub(super) fn broken(error: &hyper::Error) -> Reply {
    // After its own handshake, a server may say that it wants another certificate, or any.
    if let Some(cause) = tls::cause(error) {
        tracing::debug!(%cause, "upstream: TLS");
        return tls_failed();
    }
    tracing::debug!(%error, "upstream");
    if error.is_parse() {
        return Reply::new(StatusCode::BAD_GATEWAY, "upstream-protocol-error", "UPE");
    }
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, "upstream-reset", "UC")
}
