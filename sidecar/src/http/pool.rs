//! Connections to the endpoints of clusters, kept for further requests. Each thread has its own: nothing is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::client::conn::http2;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{sleep, timeout};

use super::body::Flow;
use super::client::Client;
use super::reply::Reply;
use super::upstream::{self, Lease, Sender, Sent, Unsent};
use super::{Version, secure};
use crate::net::addrs::UpstreamAddr;
use crate::policy::circuit::Permit;
use crate::policy::retry::Outcome;
use crate::upstream::cluster::{At, Chosen, Cluster};
use crate::upstream::connect::connect;

/// Unused connections to one endpoint that a thread keeps.
const MOST_IDLE: usize = 256;
/// How often those that are kept are looked after.
const LOOK_EACH: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Pool {
    endpoints: HashMap<u64, Kept>,
    looked_after: bool,
}

#[derive(Default)]
struct Kept {
    /// The last one used is the next: those that are not needed grow old.
    http1: Vec<(Sender, Instant)>,
    http2: Option<(http2::SendRequest<Flow>, Instant)>,
    /// Held while the connection of HTTP/2 that all are to use is opened.
    opening: Arc<Mutex<()>>,
    /// Asked for either, the endpoint chose HTTP/1.1.
    chose_http1: bool,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Sends a request to an endpoint, over a connection that is there or a new one.
pub(super) async fn send(
    client: &Client,
    cluster: &Cluster,
    chosen: &Chosen,
    version: Version,
    request: Request<Flow>,
) -> Result<Sent, Unsent> {
    let in_flight = chosen.endpoint.load.begin(Instant::now());
    let id = chosen.endpoint.id;
    let mut request = request;
    let or_http1 = chosen.endpoint.tls.is_some() && secure::may_be_http1(cluster.protocol, version);
    let version = if or_http1 && chose_http1(id) { Version::Http1 } else { version };
    let (found, turn) = kept_or_turn(id, version).await;
    if let Some(mut sender) = found
        && sender.is_ready().await
    {
        request = secure::fit(request, chosen, &sender);
        let again = upstream::copy(&request);
        match sender.try_send(request).await {
            Ok(response) => {
                in_flight.answered(Instant::now());
                let lease = Lease::pooled(id, cluster.idle_timeout, sender, in_flight);
                return Ok(Sent { response, lease: Some(lease) });
            }
            Err(mut error) => match error.take_message().or(again) {
                Some(unsent) => request = unsent,
                None => return Err(upstream::unsent(&error)),
            },
        }
    }
    let permit = match &cluster.circuit {
        Some(circuit) => Some(circuit.connections.acquire().ok_or_else(overflow)?),
        None => None,
    };
    let limit = cluster.connect_timeout.unwrap_or(client.accepted.settings.timeouts.connect);
    let mut sender = connected(client, chosen, (version, or_http1), limit, permit).await?;
    request = secure::fit(request, chosen, &sender);
    if or_http1 && matches!(sender, Sender::Http1(_)) {
        with(id, |kept| kept.chose_http1 = true);
    }
    if let Sender::Http2(sender) = &sender {
        let until = Instant::now() + cluster.idle_timeout;
        with(id, |kept| kept.http2 = Some((sender.clone(), until)));
        look_after();
    }
    drop(turn);
    match sender.try_send(request).await {
        Ok(response) => {
            in_flight.answered(Instant::now());
            let lease = Lease::pooled(id, cluster.idle_timeout, sender, in_flight);
            Ok(Sent { response, lease: Some(lease) })
        }
        Err(error) => Err(upstream::unsent(&error)),
    }
}

/// Keeps a connection for the next request to this endpoint, at most so long.
pub(super) fn give_back(endpoint: u64, sender: Sender, keep: Duration) {
    if sender.is_closed() {
        return;
    }
    match sender {
        Sender::Http1(mut sender) if !sender.is_ready() => {
            // The answer came before all of the request was sent: nobody else is to wait for that.
            tokio::spawn(async move {
                if sender.ready().await.is_ok() {
                    keep_for(endpoint, Sender::Http1(sender), keep);
                }
            });
        }
        sender => keep_for(endpoint, sender, keep),
    }
}

fn keep_for(endpoint: u64, sender: Sender, keep: Duration) {
    let until = Instant::now() + keep;
    with(endpoint, |kept| match sender {
        Sender::Http2(sender) => kept.http2 = Some((sender, until)),
        sender @ Sender::Http1(_) => {
            if kept.http1.len() < MOST_IDLE {
                kept.http1.push((sender, until));
            }
        }
    });
    look_after();
}

fn with(endpoint: u64, change: impl FnOnce(&mut Kept)) {
    POOL.with_borrow_mut(|pool| change(pool.endpoints.entry(endpoint).or_default()));
}

fn kept(endpoint: u64, version: Version) -> Option<Sender> {
    let now = Instant::now();
    POOL.with_borrow_mut(|pool| {
        let kept = pool.endpoints.get_mut(&endpoint)?;
        match version {
            Version::Http2 => {
                let (sender, _) = kept.http2.as_ref().filter(|(sender, _)| !sender.is_closed())?;
                Some(Sender::Http2(sender.clone()))
            }
            Version::Http1 => loop {
                let (sender, until) = kept.http1.pop()?;
                if until > now && !sender.is_closed() {
                    return Some(sender);
                }
            },
        }
    })
}

/// A connection that is there, or the turn to open one of HTTP/2. One connection serves all: who comes while it is opened waits
/// for it, and opens one without a turn if that failed.
async fn kept_or_turn(endpoint: u64, version: Version) -> (Option<Sender>, Option<OwnedMutexGuard<()>>) {
    let found = kept(endpoint, version);
    if found.is_some() || version == Version::Http1 {
        return (found, None);
    }
    let mut opening = Arc::default();
    with(endpoint, |kept| opening = Arc::clone(&kept.opening));
    if let Ok(turn) = Arc::clone(&opening).try_lock_owned() {
        return (None, Some(turn));
    }
    drop(opening.lock().await);
    (kept(endpoint, version), None)
}

fn chose_http1(endpoint: u64) -> bool {
    POOL.with_borrow(|pool| pool.endpoints.get(&endpoint).is_some_and(|kept| kept.chose_http1))
}

/// Closes what was not used for long enough, as long as there is anything.
fn look_after() {
    let begun = POOL.with_borrow_mut(|pool| std::mem::replace(&mut pool.looked_after, true));
    if begun {
        return;
    }
    // On this thread, whose pool it is.
    tokio::spawn(async {
        loop {
            sleep(LOOK_EACH).await;
            let now = Instant::now();
            let done = POOL.with_borrow_mut(|pool| {
                pool.endpoints.retain(|_, kept| {
                    kept.http1.retain(|(sender, until)| *until > now && !sender.is_closed());
                    kept.http2.take_if(|(sender, until)| *until <= now || sender.is_closed());
                    !kept.http1.is_empty() || kept.http2.is_some()
                });
                pool.looked_after = !pool.endpoints.is_empty();
                pool.endpoints.is_empty()
            });
            if done {
                return;
            }
        }
    });
}

async fn connected(
    client: &Client,
    chosen: &Chosen,
    version: (Version, bool),
    limit: Duration,
    permit: Option<Permit>,
) -> Result<Sender, Unsent> {
    let deadline = Instant::now() + limit;
    let failed = |reply| Unsent { outcome: Outcome::ConnectFailure, reply, is_theirs: true };
    match &chosen.endpoint.at {
        At::Tcp(address) => {
            let stream = connect(UpstreamAddr(*address), None, limit)
                .await
                .map_err(|error| failed(upstream::failed(crate::opaque::connect_failure(&error))))?;
            let io = upstream::io(stream, client.accepted.sockets.later_hop());
            secure::handshake(io, chosen, version, deadline, permit).await
        }
        At::Unix(path) => {
            let unavailable =
                Reply::new(hyper::StatusCode::SERVICE_UNAVAILABLE, "upstream-connect-failed", "UF");
            match timeout(limit, UnixStream::connect(path)).await {
                Ok(Ok(stream)) => secure::handshake(stream, chosen, version, deadline, permit).await,
                Ok(Err(error)) => {
                    tracing::debug!(path = %path.display(), %error, "upstream");
                    Err(failed(unavailable))
                }
                Err(_) => Err(failed(unavailable)),
            }
        }
    }
}

fn overflow() -> Unsent {
    let reply = Reply::new(hyper::StatusCode::SERVICE_UNAVAILABLE, "overflow", "UO");
    Unsent { outcome: Outcome::ConnectFailure, reply, is_theirs: false }
}
