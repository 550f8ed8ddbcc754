//! Forwarding one TCP connection as bytes: from the accepted socket to the upstream and back, until both are closed.

use std::pin::pin;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Mode;
use crate::connection::{Accepted, Connection, Ingress};
use crate::drain::Over;
use crate::http::Sent;
use crate::net::addrs::{ClientAddr, Direction, OrigDst, UpstreamAddr};
use crate::net::copy::{self, End, Meters, Progress};
use crate::observe::close_reason::CloseReason;
use crate::upstream::connect::{ConnectError, Errand, connect};

/// Forwards it to its end. The client is reset when the upstream cannot be reached, since it has seen its connection
/// open.
pub async fn forward(connection: &Connection) -> CloseReason {
    let reached = tokio::select! {
        reached = reach(connection) => reached,
        () = connection.accepted.shared.drain.forced() => Err(CloseReason::Drained),
    };
    match reached {
        Ok(upstream) => exchange(connection, upstream).await,
        Err(reason) => reason,
    }
}

/// Finds the upstream and connects to it, once. Cancel safe.
pub async fn reach(connection: &Connection) -> Result<&TcpStream, CloseReason> {
    let Accepted { sockets, .. } = &*connection.accepted;
    if let Some(upstream) = sockets.upstream.get() {
        return Ok(upstream);
    }
    let routed = connection.accepted.shared.http.connection(&connection.accepted).transpose()?;
    let target = if let Some(Sent { route, to }) = routed {
        connection.tracked.policy(route);
        to
    } else {
        connection.tracked.policy(connection.accepted.ingress.policy());
        target(&connection.accepted).await?
    };
    let upstream = dial(&connection.accepted, target).await?;
    connection.tracked.connected(target);
    let _ = sockets.client.set_nodelay(true);
    Ok(sockets.upstream.get_or_init(|| upstream.into()))
}

/// Where it goes.
pub async fn target(accepted: &Accepted) -> Result<UpstreamAddr, CloseReason> {
    let id = accepted.id;
    match &accepted.ingress {
        Ingress::Listener(front) => {
            // What is no request, and no route is for.
            let Some(backend) = &front.forward else { return Err(CloseReason::ConnectFailed) };
            let Ok(picked) = timeout(accepted.settings.timeouts.connect, backend.pick()).await else {
                return Err(CloseReason::ConnectTimeout);
            };
            picked.map_err(|error| {
                tracing::info!(%id, %error, "no endpoint");
                CloseReason::ConnectFailed
            })
        }
        _ => match &accepted.destination {
            Ok(Some(OrigDst(address))) if accepted.shared.is_own(&accepted.sockets.client, *address) => {
                Err(CloseReason::Loop)
            }
            Ok(Some(OrigDst(address))) => Ok(UpstreamAddr(*address)),
            Ok(None) => Err(CloseReason::NoOriginalDestination),
            Err(error) => {
                tracing::debug!(%id, %error, "original destination");
                Err(CloseReason::NoOriginalDestination)
            }
        },
    }
}

/// Connects on behalf of the client, whom an inbound connection's program is shown.
pub async fn dial(accepted: &Accepted, target: UpstreamAddr) -> Result<TcpStream, CloseReason> {
    let (shared, id) = (&accepted.shared, accepted.id);
    let errand = match (&accepted.ingress, shared.mode) {
        (Ingress::Inbound, Mode::Ebpf) => Some(Errand { id, show: ClientAddr(accepted.peer) }),
        _ => None,
    };
    connect(target, errand, accepted.settings.timeouts.connect).await.map_err(|error| {
        tracing::debug!(%id, %error, "upstream");
        connect_failure(&error)
    })
}

/// Copies until both sides are done, or until the application is gone and all that it sent is delivered.
async fn exchange(connection: &Connection, upstream: &TcpStream) -> CloseReason {
    let Accepted { shared, settings, sockets, .. } = &*connection.accepted;
    let tracked = &connection.tracked;
    let counters = tracked.counters();
    let progress = Progress::default();
    let (meters, from_application) = match sockets.direction {
        Direction::Outbound => (Meters { forth: &counters.sent, back: &counters.received }, &progress.forth),
        Direction::Inbound => (Meters { forth: &counters.received, back: &counters.sent }, &progress.back),
    };
    sockets.climb(tracked);
    // Pinned here, and lent: a future that is handed over is in memory twice, and there is one for each connection.
    let told = pin!(async {
        match shared.drain.over(from_application).await {
            Over::Delivered => CloseReason::Finished,
            Over::Forced => CloseReason::Drained,
        }
    });
    let ends = (&sockets.client, upstream);
    match copy::bidirectional(ends, meters, &progress, &**sockets, settings.timeouts.idle, told).await {
        End::Finished => CloseReason::Finished,
        End::Idle => CloseReason::IdleTimeout,
        End::Told(reason) => reason,
        End::First(error) => {
            tracing::debug!(%error, "client");
            CloseReason::ClientReset
        }
        End::Second(error) => {
            tracing::debug!(%error, "upstream");
            CloseReason::UpstreamReset
        }
    }
}

/// How a connection that did not come about counts.
pub(crate) fn connect_failure(error: &ConnectError) -> CloseReason {
    match error {
        ConnectError::Timeout(..) => CloseReason::ConnectTimeout,
        ConnectError::NotNoted(..) => CloseReason::LimitReached,
        ConnectError::Io(_, error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => CloseReason::ConnectRefused,
            Some(libc::ETIMEDOUT) => CloseReason::ConnectTimeout,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => CloseReason::Unreachable,
            _ => CloseReason::ConnectFailed,
        },
    }
}
