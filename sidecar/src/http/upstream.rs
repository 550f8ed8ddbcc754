//! Connections to upstreams, and sending requests over them.

use std::sync::{Arc, PoisonError};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::Version;
use super::body::Flow;
use super::record::Record;
use super::reply::Reply;
use super::serve::Client;
use crate::bypass::hop::Hop;
use crate::connection::Sockets;
use crate::net::addrs::UpstreamAddr;
use crate::net::io::{Io, Socket};
use crate::observe::close_reason::CloseReason;
use crate::opaque;

/// Sends requests over one connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<Flow>),
    Http2(http2::SendRequest<Flow>),
}

/// A connection of HTTP/1.1 while a request uses it.
pub(super) struct Lease {
    sender: Sender,
    client: Arc<Client>,
}

/// The upstream's socket, as hyper's.
enum UpstreamSocket {
    /// The one of the client's connection that was dialled first.
    First(Arc<Sockets>, Arc<TcpStream>),
    /// A later one.
    Later(TcpStream, Option<Hop>),
}

// === impl ===

impl Lease {
    /// All of the answer came: the connection can serve the client's next request.
    pub(super) fn give_back(self) {
        let Self { sender, client } = self;
        if !sender.is_closed() {
            *client.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        }
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until the connection has room for a request. False: it is closed.
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn try_send(
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
) -> Result<(Response<Incoming>, Option<Lease>), Reply> {
    let target = opaque::target(&client.accepted).await.map_err(failed)?;
    let mut request = request;
    if let Some(mut sender) = kept(client)
        && sender.is_ready().await
    {
        record.attempt(|| target.0.to_string());
        let again = copy(&request);
        match sender.try_send(request).await {
            Ok(response) => return Ok((response, lease(client, sender))),
            Err(mut error) => match error.take_message().or(again) {
                Some(unsent) => request = unsent,
                None => return Err(broken(error.error())),
            },
        }
    }
    let mut sender = connect(client, target).await.map_err(failed)?;
    record.attempt(|| target.0.to_string());
    match sender.try_send(request).await {
        Ok(response) => Ok((response, lease(client, sender))),
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
        Sender::Http1(_) => Some(Lease { sender, client: Arc::clone(client) }),
        Sender::Http2(_) => None,
    }
}

/// A request that may be sent twice: a safe one without a body.
fn copy(request: &Request<Flow>) -> Option<Request<Flow>> {
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
    let socket = match sockets.take_first() {
        Some(first) => UpstreamSocket::First(Arc::clone(sockets), first),
        None => {
            let stream = opaque::dial(&client.accepted, target).await?;
            UpstreamSocket::Later(stream, sockets.later_hop())
        }
    };
    let io = TokioIo::new(Io(Arc::new(socket)));
    let broken = |error: hyper::Error| {
        tracing::debug!(%error, "upstream");
        CloseReason::UpstreamReset
    };
    match client.version {
        Version::Http1 => {
            let (sender, connection) = http1::handshake(io).await.map_err(broken)?;
            tokio::spawn(async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, "upstream");
                }
            });
            Ok(Sender::Http1(sender))
        }
        Version::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) =
                builder.timer(TokioTimer::new()).handshake(io).await.map_err(broken)?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "upstream");
                }
            });
            let kept = Sender::Http2(sender.clone());
            *client.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
            Ok(Sender::Http2(sender))
        }
    }
}

/// The upstream could not be reached.
fn failed(reason: CloseReason) -> Reply {
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

/// It was reached, and did not answer.
fn broken(error: &hyper::Error) -> Reply {
    tracing::debug!(%error, "upstream");
    if error.is_parse() {
        return Reply::new(StatusCode::BAD_GATEWAY, "upstream-protocol-error", "UPE");
    }
    Reply::new(StatusCode::SERVICE_UNAVAILABLE, "upstream-reset", "UC")
}
