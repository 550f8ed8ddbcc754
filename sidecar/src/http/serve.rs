//! A client's connection: hyper reads its requests, and this looks after it meanwhile.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::client::{Client, ClientSocket, Told};
use super::exchange::exchange;
use super::farewell::farewell;
use super::framing::{Bounds, Refusal};
use super::guard::{Guard, Guarded};
use super::streams::Streams;
use super::watch::{Over, until_over};
use super::{Version, rest};
use crate::connection::Connection;
use crate::net::io::Io;
use crate::net::sys;
use crate::observe::close_reason::CloseReason;
use crate::observe::connection::Protocol;
use crate::observe::requests::{Labels, Sample};
use crate::seldom::Seldom;

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// How serving stopped.
enum Stopped {
    /// For good.
    Ended(CloseReason),
    /// There is nothing to do.
    Quiet,
}

/// Serves a client's requests until its connection ends.
pub async fn serve(connection: &Connection, version: Version) -> CloseReason {
    let accepted = &connection.accepted;
    connection.tracked.protocol(match version {
        Version::Http1 => Protocol::Http1,
        Version::Http2 => Protocol::Http2,
    });
    connection.tracked.policy(accepted.ingress.policy());
    accepted.sockets.climb(&connection.tracked);
    let _ = accepted.sockets.client.set_nodelay(true);
    let limits = accepted.settings.limits;
    let bounds = Bounds {
        header_bytes: limits.max_request_header_bytes,
        fields: limits.max_request_headers,
        connect: accepted.settings.allow_connect,
    };
    let guard = (version == Version::Http1).then(|| Arc::new(Guard::new(bounds)));
    let client = Arc::new(Client::new(accepted, version, guard));
    let socket = Arc::new(ClientSocket::new(&client, connection.tracked.counters()));
    let mut reason = match &client.guard {
        Some(guard) => http1(&client, &socket, guard, bounds).await,
        None => Box::pin(http2(&client, Io(socket), bounds)).await,
    };
    if let Some(of_tunnel) = client.tunnelled().await {
        reason = of_tunnel;
    }
    let refusal = client.guard.as_ref().and_then(|guard| guard.refusal()).filter(|_| !client.is_active());
    if let Some(refusal) = refusal {
        let none = &client.none;
        let labels = Labels {
            direction: accepted.sockets.direction,
            route: Arc::clone(none),
            backend: Arc::clone(none),
            method: "other",
            code: refusal.status,
            flags: "DPE",
        };
        client.common().requests.count(labels, Sample::default());
    }
    let unread =
        version == Version::Http1 && sys::unread(&accepted.sockets.client).is_ok_and(|bytes| bytes > 0);
    if refusal.is_some() || unread && reason == CloseReason::Finished {
        farewell(&accepted.sockets.client, refusal).await;
    }
    reason
}

/// Whenever there is nothing to do, nothing is kept but the sockets.
async fn http1(
    client: &Arc<Client>,
    socket: &Arc<ClientSocket>,
    guard: &Arc<Guard>,
    bounds: Bounds,
) -> CloseReason {
    loop {
        let io = Guarded::new(Io(Arc::clone(socket)), Arc::clone(guard));
        // In a box, since all that it takes is to be gone while the connection rests.
        match Box::pin(awake(client, io, bounds)).await {
            Stopped::Ended(reason) => return reason,
            Stopped::Quiet => {}
        }
        if let Some(reason) = rest::rest(client).await {
            return reason;
        }
    }
}

async fn awake(client: &Arc<Client>, io: Guarded<ClientSocket>, bounds: Bounds) -> Stopped {
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .header_read_timeout(None)
        .max_headers(bounds.fields)
        // What it accepts was found small enough before; its least is 8 KiB.
        .max_buf_size(bounds.header_bytes.max(8 * 1024) * 2);
    let service = service_fn(|request| {
        let client = Arc::clone(client);
        async move { Ok::<_, Infallible>(exchange(client, request).await) }
    });
    let serving = pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    drive(client, serving, http1::UpgradeableConnection::graceful_shutdown).await
}

async fn http2(client: &Arc<Client>, io: Io<ClientSocket>, bounds: Bounds) -> CloseReason {
    let mut builder = http2::Builder::new(Streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX));
    let service = service_fn(|request| {
        let client = Arc::clone(client);
        async move { Ok::<_, Infallible>(exchange(client, request).await) }
    });
    let serving = pin!(builder.serve_connection(TokioIo::new(io), service));
    match drive(client, serving, http2::Connection::graceful_shutdown).await {
        Stopped::Ended(reason) => reason,
        // Only said of HTTP/1.
        Stopped::Quiet => CloseReason::Finished,
    }
}

/// Serves until the connection ends, by itself or since it was told to, or can rest. `shut_down`: lets it end when it has
/// nothing more to do.
async fn drive<F>(client: &Client, mut serving: Pin<&mut F>, shut_down: impl Fn(Pin<&mut F>)) -> Stopped
where
    F: Future<Output = Result<(), hyper::Error>>,
{
    let (mut draining, mut idle, mut last) = (false, false, None);
    loop {
        let mut beside = pin!(Seldom::new(client.told(draining)));
        let told = tokio::select! {
            biased;
            ended = until_over(serving.as_mut(), &mut last) => return Stopped::Ended(match ended {
                Ok(ended) => closed(ended),
                Err(Over::Idle) => CloseReason::IdleTimeout,
                // What is cut is not to look whole, which an answer may that ends with its connection.
                Err(Over::Request | Over::Attempt) => CloseReason::UpstreamReset,
            }),
            told = beside.as_mut() => told,
        };
        match told {
            Told::Forced => return Stopped::Ended(CloseReason::Drained),
            Told::Reset => return Stopped::Ended(CloseReason::ClientReset),
            Told::Late => {
                if let Some(guard) = &client.guard {
                    guard.refuse(Refusal { status: 408, reason: "request-header-timeout" });
                }
                return Stopped::Ended(CloseReason::Finished);
            }
            Told::Quiet => return Stopped::Quiet,
            // It was to end when all is said, and its client does not take that.
            Told::Idle if idle => return Stopped::Ended(CloseReason::IdleTimeout),
            Told::Drain | Told::Idle => {
                idle = matches!(told, Told::Idle);
                draining = true;
                shut_down(serving.as_mut());
            }
        }
    }
}

fn closed(ended: Result<(), hyper::Error>) -> CloseReason {
    match ended {
        Ok(()) => CloseReason::Finished,
        Err(error) => {
            tracing::debug!(%error, "client");
            // Of what a client does wrong it was told; the rest is its going away, or an answer that broke off.
            if error.is_parse() || error.is_incomplete_message() {
                CloseReason::Finished
            } else if error.is_user() {
                CloseReason::UpstreamReset
            } else {
                CloseReason::ClientReset
            }
        }
    }
}
