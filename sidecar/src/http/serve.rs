//! A client's connection: hyper reads its requests, and this looks after it meanwhile.

use std::convert::Infallible;
use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::exchange::exchange;
use super::framing::{Bounds, Refusal};
use super::guard::{Guard, Guarded};
use super::streams::Streams;
use super::upstream::Sender;
use super::watch::{Over, until_over};
use super::{Common, Version};
use crate::connection::{Accepted, Connection, Sockets};
use crate::net::addrs::Direction;
use crate::net::io::{Io, Socket};
use crate::net::sys;
use crate::observe::close_reason::CloseReason;
use crate::observe::connection::Protocol;
use crate::observe::requests::{Labels, Sample};
use crate::observe::table::Counters;
use crate::seldom::Seldom;

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// How long a client that was refused may take to hear of it, and how much of what it still sends is read meanwhile: a close
/// with unread bytes would be a reset, which takes the answer along.
const FAREWELL: Duration = Duration::from_millis(500);
const FAREWELL_BYTES: usize = 256 * 1024;

/// A client, for its requests.
pub(super) struct Client {
    /// Its connection.
    pub accepted: Arc<Accepted>,
    /// What it speaks.
    pub version: Version,
    /// Where it meant to go.
    pub destination: Option<SocketAddr>,
    /// The connection to where it meant to go, while no request uses it.
    pub own: Mutex<Option<Sender>>,
    /// Of HTTP/1.1.
    pub guard: Option<Arc<Guard>>,
    /// After an upgrade: bytes.
    pub tunnel: Mutex<Option<JoinHandle<()>>>,
    /// The label for what has no name.
    pub none: Arc<str>,
    active: AtomicU32,
    since: Instant,
    /// When the last request ended, in milliseconds after `since`.
    quiet_since: AtomicU64,
}

/// A request that is being served.
pub(super) struct Active(Arc<Client>);

/// What a connection is told from beside.
enum Told {
    Drain,
    Forced,
    /// A request's header takes too long.
    Late,
    Idle,
    /// The client has reset the connection.
    Reset,
}

/// The client's socket, as hyper's.
struct ClientSocket {
    sockets: Arc<Sockets>,
    counters: Arc<Counters>,
}

// === impl Client ===

impl Client {
    /// What all share.
    pub(super) fn common(&self) -> &Common {
        &self.accepted.shared.http
    }

    /// The port that it connected to.
    pub(super) fn port(&self) -> u16 {
        let here = || self.accepted.sockets.client.local_addr().map_or(0, |local| local.port());
        self.destination.map_or_else(here, |address| address.port())
    }

    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(self))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// How long no request was served.
    fn quiet(&self) -> Duration {
        if self.is_active() {
            return Duration::ZERO;
        }
        Duration::from_millis(self.millis().saturating_sub(self.quiet_since.load(Ordering::Relaxed)))
    }

    /// Waits for what is not a request. `draining`: that is known already.
    async fn told(&self, draining: bool) -> Told {
        let (shared, settings) = (&self.accepted.shared, &self.accepted.settings);
        let idle = async {
            let mut left = settings.timeouts.idle;
            while !left.is_zero() {
                sleep(left).await;
                left = settings.timeouts.idle.saturating_sub(self.quiet());
            }
        };
        let late = async {
            let Some(guard) = &self.guard else { return std::future::pending().await };
            loop {
                guard.partial.notified().await;
                let head = guard.head();
                sleep(settings.limits.request_header_timeout).await;
                if head.is_some() && guard.head() == head {
                    return;
                }
            }
        };
        // hyper reads nothing while it waits for an answer, since a client may have closed its side and wait for it.
        let reset = async {
            let client = &self.accepted.sockets.client;
            while client.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
        };
        tokio::select! {
            () = shared.drain.forced() => Told::Forced,
            () = reset => Told::Reset,
            () = shared.drain.started(), if !draining => Told::Drain,
            () = late => Told::Late,
            () = idle => Told::Idle,
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.quiet_since.store(self.0.millis(), Ordering::Relaxed);
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl ClientSocket ===

impl Socket for ClientSocket {
    fn stream(&self) -> &TcpStream {
        &self.sockets.client
    }

    fn read(&self, bytes: usize) {
        self.count(bytes, self.sockets.direction == Direction::Outbound);
    }

    fn wrote(&self, bytes: usize) {
        self.count(bytes, self.sockets.direction == Direction::Inbound);
    }
}

impl ClientSocket {
    /// A client is the program itself, or its peer.
    fn count(&self, bytes: usize, by_program: bool) {
        let counter = if by_program { &self.counters.sent } else { &self.counters.received };
        // Nobody else adds to it.
        counter.store(counter.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
        if bytes > 0 {
            self.sockets.client_message();
        }
    }
}

// === serving ===

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
    let bounds = Bounds { header_bytes: limits.max_request_header_bytes, fields: limits.max_request_headers };
    let client = Arc::new(Client {
        accepted: Arc::clone(accepted),
        version,
        destination: accepted.meant_for(),
        own: Mutex::new(None),
        guard: (version == Version::Http1).then(|| Arc::new(Guard::new(bounds))),
        tunnel: Mutex::new(None),
        none: Arc::from("none"),
        active: AtomicU32::new(0),
        since: Instant::now(),
        quiet_since: AtomicU64::new(0),
    });
    let socket = Arc::new(ClientSocket {
        sockets: Arc::clone(&accepted.sockets),
        counters: Arc::clone(connection.tracked.counters()),
    });
    let reason = match &client.guard {
        Some(guard) => http1(&client, Guarded::new(Io(socket), Arc::clone(guard)), bounds).await,
        None => http2(&client, Io(socket), bounds).await,
    };
    let tunnel = client.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(tunnel) = tunnel {
        // It ends by itself, or is told to.
        let _ = tunnel.await;
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
        let _ = timeout(FAREWELL, farewell(&accepted.sockets.client, refusal)).await;
    }
    reason
}

async fn http1(client: &Arc<Client>, io: Guarded<ClientSocket>, bounds: Bounds) -> CloseReason {
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
    drive(client, serving, |serving| serving.graceful_shutdown()).await
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
    drive(client, serving, |serving| serving.graceful_shutdown()).await
}

/// Serves until the connection ends, by itself or since it was told to. `shut_down`: lets it end when it has nothing more to do.
async fn drive<F>(client: &Client, mut serving: Pin<&mut F>, shut_down: impl Fn(Pin<&mut F>)) -> CloseReason
where
    F: Future<Output = Result<(), hyper::Error>>,
{
    let (mut draining, mut last) = (false, None);
    loop {
        let mut beside = pin!(Seldom::new(client.told(draining)));
        let told = tokio::select! {
            biased;
            ended = until_over(serving.as_mut(), &mut last) => return match ended {
                Ok(ended) => closed(ended),
                Err(Over::Idle) => CloseReason::IdleTimeout,
                Err(Over::Request | Over::Attempt) => CloseReason::Finished,
            },
            told = beside.as_mut() => told,
        };
        match told {
            Told::Forced => return CloseReason::Drained,
            Told::Reset => return CloseReason::ClientReset,
            Told::Late if !client.is_active() => {
                if let Some(guard) = &client.guard {
                    guard.refuse(Refusal { status: 408, reason: "request-header-timeout" });
                }
                return CloseReason::Finished;
            }
            Told::Late => {}
            Told::Drain | Told::Idle => {
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
            // Of what a client does wrong it was told; the rest is its going away.
            if error.is_parse() || error.is_incomplete_message() {
                CloseReason::Finished
            } else {
                CloseReason::ClientReset
            }
        }
    }
}

/// Says why nothing more is read, if that is why, and lets the last answer be heard.
async fn farewell(client: &TcpStream, refusal: Option<Refusal>) {
    if let Some(refusal) = refusal
        && (client.writable().await.is_err() || client.try_write(refusal.answer().as_bytes()).is_err())
    {
        return;
    }
    let _ = SockRef::from(client).shutdown(Shutdown::Write);
    let mut left = FAREWELL_BYTES;
    let mut buffer = [0; 4096];
    while left > 0 && client.readable().await.is_ok() {
        let read = client.try_io(Interest::READABLE, || (&*SockRef::from(client)).read(&mut buffer));
        match read {
            Ok(0) => return,
            Ok(read) => left = left.saturating_sub(read),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
