//! The first words on a connection to an endpoint, by TLS where that is asked for, and what follows from it for requests.

use std::sync::Arc;
use std::time::Instant;

use hyper::http::uri::Scheme;
use hyper::{Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout_at;

use super::body::Flow;
use super::line::Place;
use super::upstream::{self, Sender, Unsent};
use super::{Version, headers};
use crate::config::Protocol;
use crate::observe::close_reason::CloseReason;
use crate::policy::retry::Outcome;
use crate::tls::{self, Peer};
use crate::upstream::cluster::Chosen;

/// Whether an endpoint may choose HTTP/1.1 for a request of this version: one in HTTP/2 can be said in either, but one in
/// HTTP/1.1 may ask for another protocol, which HTTP/2 does not know.
pub(super) fn may_be_http1(protocol: Protocol, version: Version) -> bool {
    matches!(protocol, Protocol::Auto | Protocol::Tcp) && version == Version::Http2
}

/// Begins to speak on a new connection. `version`: what is wanted, and whether the endpoint may choose HTTP/1.1 instead.
pub(super) async fn handshake<T>(
    io: T,
    chosen: &Chosen,
    (version, or_http1): (Version, bool),
    deadline: Instant,
    place: Option<Arc<Place>>,
) -> Result<Sender, Unsent>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = match &chosen.endpoint.tls {
        None => upstream::handshake(io, version, place).await,
        Some(peer) => {
            let offers: &[&[u8]] = match version {
                Version::Http2 if or_http1 => &[tls::HTTP2, tls::HTTP1],
                Version::Http2 => &[tls::HTTP2],
                Version::Http1 => &[tls::HTTP1],
            };
            // On the heap: a request to a plain endpoint does not carry the room for it.
            let stream = Box::pin(secured(io, chosen, peer, offers, deadline)).await?;
            let agreed = match stream.get_ref().1.alpn_protocol() {
                Some(tls::HTTP1) => Version::Http1,
                // Who does not know the extension does not know HTTP/2 by it (RFC 9113, section 3.2).
                None if or_http1 => Version::Http1,
                _ => version,
            };
            upstream::handshake(stream, agreed, place).await
        }
    };
    begun.map(|(sender, _)| sender).map_err(|reason| {
        let reply = upstream::failed(reason);
        Unsent { outcome: Outcome::ResetBeforeRequest, reply, is_theirs: true }
    })
}

async fn secured<T>(
    io: T,
    chosen: &Chosen,
    peer: &Peer,
    offers: &[&[u8]],
    deadline: Instant,
) -> Result<tokio_rustls::client::TlsStream<T>, Unsent>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let reply = match timeout_at(deadline.into(), peer.connect(io, offers)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => {
            let name = peer.name.to_str();
            tracing::debug!(endpoint = %chosen.endpoint.name, %name, %error, "upstream: TLS");
            upstream::tls_failed()
        }
        Err(_) => upstream::failed(CloseReason::ConnectTimeout),
    };
    Err(Unsent { outcome: Outcome::ConnectFailure, reply, is_theirs: true })
}

/// Says a request as this connection to the endpoint takes it.
pub(super) fn fit(request: Request<Flow>, chosen: &Chosen, sender: &Sender) -> Request<Flow> {
    if chosen.endpoint.tls.is_none() {
        return request;
    }
    let (mut parts, body) = request.into_parts();
    let version = match sender {
        Sender::Http1(_) => Version::Http1,
        Sender::Http2(_) => Version::Http2,
    };
    let authority = headers::authority(&parts);
    headers::for_version(version, &mut parts, authority.as_ref());
    if version == Version::Http2 {
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = uri.authority.is_some().then_some(Scheme::HTTPS);
        // As valid as it was.
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
    }
    Request::from_parts(parts, body)
}
