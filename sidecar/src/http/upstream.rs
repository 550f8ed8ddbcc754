//! Connections to upstreams, and sending requests over them.

use std::sync::{Arc, PoisonError};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::body::Flow;
use super::line::Place;
use super::pool::Pooled;
use super::record::Record;
use super::reply::Reply;
use super::serve::Client;
use super::{Version, pool};
use crate::bypass::hop::Hop;
use crate::connection::Sockets;
use crate::net::addrs::UpstreamAddr;
use crate::net::io::{Io, Socket};
use crate::observe::close_reason::CloseReason;
use crate::opaque;
use crate::policy::circuit::Permit;
use crate::policy::retry::Outcome;
use crate::upstream::balance::load::InFlight;

/// Sends requests over one connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<Flow>),
    Http2(http2::SendRequest<Flow>),
}

/// A connection while a request uses it.
pub(super) enum Lease {
    /// The client's own.
    Own(Sender, Arc<Client>),
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
enum UpstreamSocket {
    /// The one of the client's connection that was dialled first.
    First(Arc<Sockets>, Arc<TcpStream>),
    /// A later one.
    Later(TcpStream, Option<Box<Hop>>),
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
            Self::Own(sender, client) => {
                if !sender.is_closed() {
                    *client.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
                }
            }
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

impl Socket for UpstreamSocket {
    fn stream(&self) -> &TcpStream {
        match self {
            Self::First(_, stream) => stream,
            Self::Later(stream, _) => stream,
        }
    }

    fn read(&self, bytes: usize) {
        self.wrote(bytes);
    }

    fn wrote(&self, bytes: usize) {
        match self {
            _ if bytes == 0 => {}
            Self::First(sockets, _) => sockets.upstream_message(),
            Self::Later(stream, hop) => {
                if let Some(hop) = hop {
                    hop.message(stream);
                }
            }
        }
    }
}

/// Sends a request to where its client meant to connect, over a connection of that client's own, so that the server sees
/// whom it serves. A request that a kept connection did not take before it closed is sent once more, over a new one; also
/// one that it took, if that is safe (RFC 9110 section 9.2.2).
pub(super) async fn send_on(
    client: &Arc<Client>,
    record: &mut Record,
    request: Request<Flow>,
) -> Result<Sent, Reply> {
    let target = opaque::target(&client.accepted).await.map_err(failed)?;
    let mut request = request;
    if let Some(mut sender) = kept(client)
        && sender.is_ready().await
    {
        record.attempt(|| target.0.to_string());
        let again = copy(&request);
        match sender.try_send(request).await {
            Ok(response) => return Ok(Sent { response, lease: lease(client, sender) }),
            Err(mut error) => match error.take_message().or(again) {
                Some(unsent) => request = unsent,
                None => return Err(broken(error.error())),
            },
        }
    }
    let mut sender = connect(client, target).await.map_err(failed)?;
    record.attempt(|| target.0.to_string());
    match sender.try_send(request).await {
        Ok(response) => Ok(Sent { response, lease: lease(client, sender) }),
        Err(error) => Err(broken(error.error())),
    }
}

/// The connection that the last request left, or that all share.
fn kept(client: &Client) -> Option<Sender> {
    let mut own = client.own.lock().unwrap_or_else(PoisonError::into_inner);
    match &*own {
        Some(Sender::Http2(sender)) => Some(Sender::Http2(sender.clone())),
        _ => own.take(),
    }
}

fn lease(client: &Arc<Client>, sender: Sender) -> Option<Lease> {
    match sender {
        Sender::Http1(_) => Some(Lease::Own(sender, Arc::clone(client))),
        Sender::Http2(_) => None,
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

/// A new connection, in the protocol that the client speaks.
async fn connect(client: &Arc<Client>, target: UpstreamAddr) -> Result<Sender, CloseReason> {
    let sockets = &client.accepted.sockets;
    let socket = if let Some(first) = sockets.take_first() {
        UpstreamSocket::First(Arc::clone(sockets), first)
    } else {
        let stream = opaque::dial(&client.accepted, target).await?;
        UpstreamSocket::Later(stream, sockets.later_hop().map(Box::new))
    };
    let sender = handshake(Io(Arc::new(socket)), client.version, None).await?;
    if let Sender::Http2(sender) = &sender {
        let kept = Sender::Http2(sender.clone());
        *client.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
    Ok(sender)
}

/// Begins to speak on a connection, whose place is held while it is open.
pub(super) async fn handshake<T>(io: T, version: Version, place: Option<Place>) -> Result<Sender, CloseReason>
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
            tokio::spawn(async move {
                let _place = place;
                let _ = connection.with_upgrades().await.map_err(broken);
            });
            Ok(Sender::Http1(sender))
        }
        Version::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) =
                builder.timer(TokioTimer::new()).handshake(io).await.map_err(broken)?;
            tokio::spawn(async move {
                let _place = place;
                let _ = connection.await.map_err(broken);
            });
            Ok(Sender::Http2(sender))
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

/// A new connection's socket, as hyper's.
pub(super) fn io(
    stream: TcpStream,
    hop: Option<Hop>,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    Io(Arc::new(UpstreamSocket::Later(stream, hop.map(Box::new))))
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
fn broken(error: &hyper::Error) -> Reply {
    tracing::debug!(%error, "upstream");
    if error.is_parse() {
        return Reply::new(StatusCode::BAD_GATEWAY, "upstream-protocol-error", "UPE");
    }
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, "upstream-reset", "UC")
}
