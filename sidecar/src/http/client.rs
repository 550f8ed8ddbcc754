//! A client's connection as its requests see it, and what happens to it beside them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::guard::Guard;
use super::own::Own;
use super::{Common, Version};
use crate::connection::{Accepted, Sockets};
use crate::net::addrs::Direction;
use crate::net::io::Socket;
use crate::observe::close_reason::CloseReason;
use crate::observe::table::Counters;

/// A connection without a request for so long is put to rest, within as long again.
const REST: Duration = Duration::from_secs(1);

/// A client, for its requests.
pub(super) struct Client {
    /// Its connection.
    pub accepted: Arc<Accepted>,
    /// What it speaks.
    pub version: Version,
    /// Where it meant to go.
    pub destination: Option<SocketAddr>,
    /// The connection to where it meant to go, while no request uses it.
    pub own: Mutex<Own>,
    /// Of HTTP/1.1.
    pub guard: Option<Arc<Guard>>,
    /// The label for what has no name.
    pub none: Arc<str>,
    /// After an upgrade: bytes.
    tunnel: Mutex<Option<JoinHandle<CloseReason>>>,
    /// hyper has bytes for it that its socket did not take yet.
    unflushed: AtomicBool,
    active: AtomicU32,
    since: Instant,
    /// When the last request ended, in milliseconds after `since`.
    quiet_since: AtomicU64,
}

/// A request that is being served.
pub(super) struct Active(Arc<Client>);

/// What a connection is told from beside.
pub(super) enum Told {
    Drain,
    Forced,
    /// A request's header takes too long.
    Late,
    Idle,
    /// The client has reset the connection.
    Reset,
    /// It can be put to rest.
    Quiet,
}

/// The client's socket, as hyper's.
pub(super) struct ClientSocket {
    client: Arc<Client>,
    counters: Arc<Counters>,
}

// === impl Client ===

impl Client {
    /// Of a connection that speaks this.
    pub(super) fn new(accepted: &Arc<Accepted>, version: Version, guard: Option<Arc<Guard>>) -> Self {
        Self {
            accepted: Arc::clone(accepted),
            version,
            destination: accepted.meant_for(),
            own: Mutex::default(),
            guard,
            none: Arc::from("none"),
            tunnel: Mutex::new(None),
            unflushed: AtomicBool::new(false),
            active: AtomicU32::new(0),
            since: Instant::now(),
            quiet_since: AtomicU64::new(0),
        }
    }

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

    /// Some request is being served.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// How long no request was served.
    pub(super) fn quiet(&self) -> Duration {
        if self.is_active() {
            return Duration::ZERO;
        }
        Duration::from_millis(self.millis().saturating_sub(self.quiet_since.load(Ordering::Relaxed)))
    }

    /// The last answer is written to its end.
    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed.load(Ordering::Relaxed)
    }

    /// After an upgrade, until whose end the connection stays.
    pub(super) fn tunnel(&self, task: JoinHandle<CloseReason>) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Waits for the end of a tunnel, if there is one. It ends by itself, or is told to.
    pub(super) async fn tunnelled(&self) -> Option<CloseReason> {
        let tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
        tunnel?.await.ok()
    }

    /// Waits for what is not a request. `draining`: that is known already.
    pub(super) async fn told(&self, draining: bool) -> Told {
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
                // Its time begins when the answer before it is out.
                while let Some(head) = guard.head() {
                    let before = self.is_active() || !self.is_flushed();
                    sleep(settings.limits.request_header_timeout).await;
                    if guard.head() != Some(head) {
                        break;
                    }
                    if !before && !self.is_active() && self.is_flushed() {
                        return;
                    }
                }
            }
        };
        // hyper reads nothing while it waits for an answer, since a client may have closed its side and wait for it.
        let reset = async {
            let client = &self.accepted.sockets.client;
            while client.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
        };
        let quiet = async {
            let Some(guard) = &self.guard else { return std::future::pending().await };
            loop {
                sleep(REST).await;
                if self.is_flushed() && self.quiet() >= REST && guard.is_between() {
                    return;
                }
            }
        };
        // What wakes this task has hyper flush, which writes an interim answer.
        let interim = async {
            let Some(guard) = &self.guard else { return std::future::pending().await };
            loop {
                guard.interims.added.notified().await;
            }
        };
        tokio::select! {
            () = shared.drain.forced() => Told::Forced,
            () = reset => Told::Reset,
            () = shared.drain.started(), if !draining => Told::Drain,
            () = late => Told::Late,
            () = idle => Told::Idle,
            () = quiet => Told::Quiet,
            never = interim => never,
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
        &self.sockets().client
    }

    fn read(&self, bytes: usize) {
        self.count(bytes, self.sockets().direction == Direction::Outbound);
    }

    fn wrote(&self, bytes: usize) {
        self.count(bytes, self.sockets().direction == Direction::Inbound);
    }

    fn unflushed(&self) -> &AtomicBool {
        &self.client.unflushed
    }
}

impl ClientSocket {
    /// Whose bytes are counted there.
    pub(super) fn new(client: &Arc<Client>, counters: &Arc<Counters>) -> Self {
        Self { client: Arc::clone(client), counters: Arc::clone(counters) }
    }

    fn sockets(&self) -> &Sockets {
        &self.client.accepted.sockets
    }

    /// A client is the program itself, or its peer.
    fn count(&self, bytes: usize, by_program: bool) {
        let counter = if by_program { &self.counters.sent } else { &self.counters.received };
        // Nobody else adds to it.
        counter.store(counter.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
        if bytes > 0 {
            self.sockets().client_message();
        }
    }
}
