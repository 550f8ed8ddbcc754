//! Connections to the endpoints of clusters, kept for further requests. Each thread has its own: nothing is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper::Request;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use tokio::time::timeout;

use super::body::Flow;
use super::line::{Line, Place, Turn, Wants};
use super::reply::Reply;
use super::upstream::{self, Lease, Sender, Sent, Unsent};
use super::{Version, secure};
use crate::connection::Shared;
use crate::net::addrs::UpstreamAddr;
use crate::policy::retry::Outcome;
use crate::settings::Settings;
use crate::upstream::cluster::{At, Chosen, Cluster};
use crate::upstream::connect::connect;

/// Unused connections to one endpoint that a thread keeps.
const MOST_IDLE: usize = 256;
/// How often those that are kept are looked after.
const LOOK_EACH: Duration = Duration::from_secs(1);

/// A connection to an endpoint.
pub(super) struct Pooled {
    sender: Sender,
    wants: Wants,
    /// How long it is kept unused.
    keep: Duration,
    /// How many more requests it takes; `None`: any number.
    left: Option<Arc<AtomicU32>>,
    /// Where its number is limited: who waits for one.
    line: Option<Arc<Line>>,
    /// Its place among them, also while it is a tunnel.
    place: Option<Arc<Place>>,
    /// As many as use it, and one where it is kept.
    users: Arc<()>,
}

#[derive(Default)]
struct Pool {
    endpoints: HashMap<u64, Kept>,
    looked_after: bool,
}

#[derive(Default)]
struct Kept {
    /// The last one used is the next: those that are not needed grow old.
    http1: Vec<(Pooled, Instant)>,
    http2: Option<(Pooled, Instant)>,
    /// Held while the connection of HTTP/2 that all are to use is opened.
    opening: Arc<Mutex<()>>,
    /// Asked for either, the endpoint chose HTTP/1.1.
    chose_http1: bool,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Requests begin to wait for connections: those that nobody uses are to be offered.
static WANTED: Notify = Notify::const_new();

/// Sends a request to an endpoint, over a connection that is there or a new one.
pub(super) async fn send(
    (shared, settings): (&Shared, &Settings),
    cluster: &Cluster,
    chosen: &Chosen,
    version: Version,
    request: Request<Flow>,
) -> Result<Sent, Unsent> {
    let in_flight = chosen.endpoint.load.begin(Instant::now());
    let endpoint = chosen.endpoint.id;
    let limit = cluster.connect_timeout.unwrap_or(settings.timeouts.connect);
    let or_http1 = chosen.endpoint.tls.is_some() && secure::may_be_http1(cluster.protocol, version);
    let version = if or_http1 && chose_http1(endpoint) { Version::Http1 } else { version };
    let wants = Wants { endpoint, version };
    let (mut request, mut repeated) = (request, false);
    let (found, mut opening) = kept_or_opening(wants).await;
    let mut turn = found.map(Turn::Connection);
    loop {
        let (mut connection, is_new) = match turn.take() {
            Some(Turn::Connection(connection)) => (connection, false),
            Some(Turn::Place(place)) => {
                (dialled(shared, limit, cluster, chosen, (version, or_http1), Some(place)).await?, true)
            }
            None => match &cluster.circuit {
                None => (dialled(shared, limit, cluster, chosen, (version, or_http1), None).await?, true),
                Some(circuit) => {
                    let given = cluster.line.turn(circuit, wants, || WANTED.notify_waiters()).await;
                    turn = Some(given.ok_or_else(overflow)?);
                    continue;
                }
            },
        };
        // Who waited for the connection can have it.
        drop(opening.take());
        // A kept one may have closed meanwhile.
        if !is_new && !connection.sender.is_ready().await {
            continue;
        }
        request = secure::fit(request, chosen, &connection.sender);
        let again = if is_new || repeated { None } else { upstream::copy(&request) };
        match connection.sender.try_send(request).await {
            Ok(response) => {
                in_flight.answered(Instant::now());
                return Ok(Sent { response, lease: Some(Lease::pooled(connection, in_flight)) });
            }
            Err(mut error) => {
                let untaken = error.take_message();
                repeated |= untaken.is_none();
                match untaken.or(again).filter(|_| !is_new) {
                    Some(unsent) => request = unsent,
                    None => return Err(upstream::unsent(&error)),
                }
            }
        }
    }
}

/// A new connection, for a first request. `version`: what is wanted, and whether the endpoint may choose HTTP/1.1 instead.
async fn dialled(
    shared: &Shared,
    limit: Duration,
    cluster: &Cluster,
    chosen: &Chosen,
    version: (Version, bool),
    place: Option<Place>,
) -> Result<Pooled, Unsent> {
    let place = place.map(Arc::new);
    let line = place.is_some().then(|| Arc::clone(&cluster.line));
    let endpoint = chosen.endpoint.id;
    let sender = connected(shared, chosen, version, limit, place.clone()).await?;
    let agreed = match &sender {
        Sender::Http1(_) => Version::Http1,
        Sender::Http2(_) => Version::Http2,
    };
    if agreed != version.0 {
        POOL.with_borrow_mut(|pool| pool.endpoints.entry(endpoint).or_default().chose_http1 = true);
    }
    let connection = Pooled {
        sender,
        wants: Wants { endpoint, version: agreed },
        keep: cluster.idle_timeout,
        left: cluster.max_requests.map(|most| Arc::new(AtomicU32::new(most.saturating_sub(1)))),
        line,
        place,
        users: Arc::default(),
    };
    // Others can use it from now on.
    if let Some(shared) = connection.share_unused() {
        keep(shared);
    }
    Ok(connection)
}

impl Pooled {
    /// Of which use it is.
    pub(super) fn is_for(&self) -> Wants {
        self.wants
    }

    /// The same for one more request, where it takes many at a time.
    pub(super) fn share(&self) -> Option<Self> {
        self.share_unused().filter(Self::begin)
    }

    fn share_unused(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        (!self.is_used_up()).then(|| Self {
            sender: Sender::Http2(sender.clone()),
            wants: self.wants,
            keep: self.keep,
            left: self.left.clone(),
            line: self.line.clone(),
            place: self.place.clone(),
            users: Arc::clone(&self.users),
        })
    }

    /// One more request. False: it takes no more.
    pub(super) fn begin(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        let begin = |left: &Arc<AtomicU32>| left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.left.as_ref().is_none_or(|left| begin(left).is_ok())
    }

    fn is_used_up(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }
}

#[cfg(test)]
impl Pooled {
    /// One that takes so many more requests.
    pub(super) fn of(sender: Sender, wants: Wants, left: Option<u32>) -> Self {
        let left = left.map(|left| Arc::new(AtomicU32::new(left)));
        let (line, place, users) = (None, None, Arc::default());
        Self { sender, wants, keep: Duration::from_secs(1), left, line, place, users }
    }
}

/// Keeps a connection for the next request to its endpoint.
pub(super) fn give_back(mut connection: Pooled) {
    if connection.sender.is_closed() || connection.is_used_up() {
        return;
    }
    if let Sender::Http1(sender) = &mut connection.sender
        && !sender.is_ready()
    {
        // The answer came before all of the request was sent: nobody else is to wait for that.
        tokio::spawn(async move {
            if connection.sender.is_ready().await {
                keep(connection);
            }
        });
        return;
    }
    keep(connection);
}

fn keep(connection: Pooled) {
    let Some(connection) = offered(connection) else { return };
    let until = Instant::now() + connection.keep;
    POOL.with_borrow_mut(|pool| {
        let kept = pool.endpoints.entry(connection.wants.endpoint).or_default();
        match &connection.sender {
            Sender::Http2(_) => kept.http2 = Some((connection, until)),
            Sender::Http1(_) => {
                if kept.http1.len() < MOST_IDLE {
                    kept.http1.push((connection, until));
                }
            }
        }
    });
    look_after();
}

/// Offers a connection to who waits for one. Returned: it is to be kept.
fn offered(connection: Pooled) -> Option<Pooled> {
    let Some(line) = connection.line.clone().filter(|line| line.is_needed()) else { return Some(connection) };
    match &connection.sender {
        Sender::Http1(_) => line.offer(connection),
        // Others wait for its place, which is free when its last request is over.
        Sender::Http2(_) => line.share(&connection).then_some(connection),
    }
}

fn kept(wants: Wants) -> Option<Pooled> {
    let now = Instant::now();
    POOL.with_borrow_mut(|pool| {
        let kept = pool.endpoints.get_mut(&wants.endpoint)?;
        match wants.version {
            Version::Http2 => {
                let (connection, _) =
                    kept.http2.as_ref().filter(|(connection, _)| !connection.sender.is_closed())?;
                connection.share()
            }
            Version::Http1 => loop {
                let (connection, until) = kept.http1.pop()?;
                if until > now && !connection.sender.is_closed() && connection.begin() {
                    return Some(connection);
                }
            },
        }
    })
}

/// A connection that is there, or leave to open one of HTTP/2. One connection serves all: who comes while it is opened waits
/// for it, and opens one without leave if that failed.
async fn kept_or_opening(wants: Wants) -> (Option<Pooled>, Option<OwnedMutexGuard<()>>) {
    let found = kept(wants);
    if found.is_some() || wants.version == Version::Http1 {
        return (found, None);
    }
    let opening =
        POOL.with_borrow_mut(|pool| Arc::clone(&pool.endpoints.entry(wants.endpoint).or_default().opening));
    if let Ok(leave) = Arc::clone(&opening).try_lock_owned() {
        return (None, Some(leave));
    }
    drop(opening.lock().await);
    (kept(wants), None)
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
            let wanted = WANTED.notified();
            let now = Instant::now();
            let done = POOL.with_borrow_mut(|pool| {
                pool.endpoints.retain(|_, kept| {
                    kept.http1.retain(|(connection, until)| *until > now && !connection.sender.is_closed());
                    kept.http2.take_if(|(connection, until)| {
                        let unused = Arc::strong_count(&connection.users) == 1;
                        unused && *until <= now || connection.sender.is_closed() || connection.is_used_up()
                    });
                    kept.offer();
                    let opening = Arc::strong_count(&kept.opening) > 1;
                    opening || !kept.http1.is_empty() || kept.http2.is_some()
                });
                pool.looked_after = !pool.endpoints.is_empty();
                pool.endpoints.is_empty()
            });
            if done {
                return;
            }
            let _ = timeout(LOOK_EACH, wanted).await;
        }
    });
}

impl Kept {
    /// To who waits, which is nobody most of the time.
    fn offer(&mut self) {
        let line =
            |kept: Option<&(Pooled, Instant)>| kept.and_then(|(connection, _)| connection.line.clone());
        let waiting = line(self.http1.last()).map_or(0, |line| line.waiting());
        for (connection, until) in self.http1.split_off(self.http1.len().saturating_sub(waiting)) {
            self.http1.extend(offered(connection).map(|connection| (connection, until)));
        }
        self.http2 = self.http2.take().and_then(|(connection, until)| Some((offered(connection)?, until)));
    }
}

async fn connected(
    shared: &Shared,
    chosen: &Chosen,
    version: (Version, bool),
    limit: Duration,
    place: Option<Arc<Place>>,
) -> Result<Sender, Unsent> {
    let deadline = Instant::now() + limit;
    let failed = |reply| Unsent { outcome: Outcome::ConnectFailure, reply, is_theirs: true };
    match &chosen.endpoint.at {
        At::Tcp(address) => {
            let stream = connect(UpstreamAddr(*address), None, limit)
                .await
                .map_err(|error| failed(upstream::failed(crate::opaque::connect_failure(&error))))?;
            let io = upstream::io(stream, shared.later_hop());
            secure::handshake(io, chosen, version, deadline, place).await
        }
        At::Unix(path) => {
            let unavailable =
                Reply::new(hyper::StatusCode::SERVICE_UNAVAILABLE, "upstream-connect-failed", "UF");
            match timeout(limit, UnixStream::connect(path)).await {
                Ok(Ok(stream)) => secure::handshake(stream, chosen, version, deadline, place).await,
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
