//! The connection table: every live connection, from what the proxy knows and what the kernel half tells.

mod half;
mod join;
mod totals;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::broadcast;

use self::half::ProxyHalf;
pub use self::half::{Counters, KernelEvent, KernelHalf, Opening, Probe, Probed};
pub use self::join::PATIENCE;
use self::join::{Change, Entry, Joined, ProxyClosed};
pub use self::totals::{DirectionTotals, Totals};
use super::access_log::AccessLog;
use super::close_reason::CloseReason;
use super::connection::{ConnectionEvent, Protocol, Snapshot};
use crate::net::addrs::{ConnectionId, UpstreamAddr};

/// How many events a watcher may lag behind before it misses some.
pub const WATCH_BACKLOG: usize = 1024;

/// The live connections of an instance. A handle: clones share the table.
#[derive(Clone)]
pub struct ConnectionTable(Arc<Shared>);

struct Shared {
    instance: String,
    /// Held for a few map operations, never while the kernel is asked or anything is waited for. Events are sent
    /// under it, which keeps their order and makes [`ConnectionTable::list_and_watch`] exact.
    locked: Mutex<Locked>,
    events: broadcast::Sender<ConnectionEvent>,
    access_log: OnceLock<AccessLog>,
}

struct Locked {
    joined: Joined,
    totals: Totals,
}

/// The proxy's hold on a connection in the table. Dropped without [`Tracked::close`], it closes the connection as
/// [`CloseReason::Aborted`].
#[must_use = "the connection closes when this is dropped"]
pub struct Tracked {
    table: ConnectionTable,
    half: Arc<ProxyHalf>,
    since: Instant,
    closed: bool,
}

// === impl ConnectionTable ===

impl ConnectionTable {
    /// A table for the named instance that lists at most `capacity` connections. Those beyond it are served, counted
    /// and logged like all others, but not listed.
    pub fn new(instance: String, capacity: usize) -> Self {
        let locked = Mutex::new(Locked { joined: Joined::new(capacity), totals: Totals::default() });
        let (events, _) = broadcast::channel(WATCH_BACKLOG);
        Self(Arc::new(Shared { instance, locked, events, access_log: OnceLock::new() }))
    }

    /// The name of the instance.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// Writes every connection to this log when it ends. Only the first log counts.
    pub fn log_to(&self, log: AccessLog) {
        // A second log would be a second `accessLog` of one ProxyConfig, which validation refuses.
        let _ = self.0.access_log.set(log);
    }

    /// The proxy has a connection.
    pub fn open(&self, opening: Opening) -> Tracked {
        self.open_at(opening, Instant::now())
    }

    fn open_at(&self, opening: Opening, now: Instant) -> Tracked {
        let half = Arc::new(ProxyHalf::new(opening));
        let probed = if self.watchers() > 0 { half.probe() } else { Probed::default() };
        let mut changes = Vec::new();
        let mut locked = self.lock();
        locked.totals.of_mut(half.opening.direction).opened += 1;
        let listed = locked.joined.proxy_opens(half.clone(), now, &mut changes);
        locked.totals.unlisted += u64::from(!listed);
        self.publish(changes, now, &probed);
        drop(locked);
        Tracked { table: self.clone(), half, since: now, closed: false }
    }

    /// Connections begun.
    pub fn opened(&self) -> u64 {
        self.lock().totals.opened()
    }

    /// The kernel half tells.
    pub fn kernel_event(&self, event: KernelEvent) {
        let now = Instant::now();
        let (half, closed) = match event {
            KernelEvent::Open(half) => (half, false),
            KernelEvent::Close(half) => (half, true),
        };
        self.change(now, |joined, changes| joined.kernel_tells(half, closed, now, changes));
    }

    /// Ends the waiting of one half for the other. To be called each second.
    pub fn sweep(&self, now: Instant) {
        self.change(now, |joined, changes| joined.sweep(now, changes));
    }

    /// The connections whose kernel half is open, as far as its events tell.
    pub fn open_in_kernel(&self) -> Vec<ConnectionId> {
        self.lock().joined.open_in_kernel()
    }

    /// Closes the kernel's half of a connection whose record is gone: the ring buffer lost its close.
    pub fn kernel_lost(&self, id: ConnectionId, now: Instant) {
        self.change(now, |joined, changes| joined.kernel_lost(id, now, changes));
    }

    /// All connections now. Asks the kernel about each: not for the data plane's threads.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let entries: Vec<_> = self.lock().joined.announced().cloned().collect();
        self.look(&entries)
    }

    /// What happens from now on.
    pub fn watch(&self) -> broadcast::Receiver<ConnectionEvent> {
        self.0.events.subscribe()
    }

    /// All connections now, and what happens from then on: none is missing, none is told twice. Asks the kernel as
    /// [`Self::snapshot`] does.
    pub fn list_and_watch(&self) -> (Vec<Snapshot>, broadcast::Receiver<ConnectionEvent>) {
        let locked = self.lock();
        let entries: Vec<_> = locked.joined.announced().cloned().collect();
        let events = self.watch();
        drop(locked);
        (self.look(&entries), events)
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.0.events.receiver_count()
    }

    /// Counts until now.
    pub fn totals(&self) -> Totals {
        let locked = self.lock();
        let mut totals = locked.totals.clone();
        locked.joined.announced().filter_map(Entry::served).for_each(|half| totals.add_bytes(half));
        totals
    }

    /// Lines that the access log lost.
    pub fn access_log_dropped(&self) -> u64 {
        self.0.access_log.get().map_or(0, AccessLog::dropped)
    }

    fn close(&self, tracked: &Tracked, reason: CloseReason, now: Instant) {
        let half = &tracked.half;
        let seen = self.watchers() > 0 || self.0.access_log.get().is_some();
        let probed = if seen { half.probe() } else { Probed::default() };
        let closed = ProxyClosed { at: now, reason, probed };
        let mut changes = Vec::new();
        let mut locked = self.lock();
        locked.totals.of_mut(half.opening.direction).closed[reason as usize] += 1;
        locked.totals.add_bytes(half);
        if let Some(closed) = locked.joined.proxy_closes(half, closed, &mut changes) {
            changes.push(Change::Closed(Entry::unlisted(half.clone(), tracked.since, closed)));
        }
        self.publish(changes, now, &Probed::default());
    }

    fn look(&self, entries: &[Entry]) -> Vec<Snapshot> {
        let now = Instant::now();
        let look = |entry: &Entry| {
            let probed = entry.served().map(ProxyHalf::probe).unwrap_or_default();
            entry.snapshot(&self.0.instance, now, probed)
        };
        entries.iter().map(look).collect()
    }

    fn change(&self, now: Instant, f: impl FnOnce(&mut Joined, &mut Vec<Change>)) {
        let mut changes = Vec::new();
        let mut locked = self.lock();
        f(&mut locked.joined, &mut changes);
        self.publish(changes, now, &Probed::default());
    }

    /// Tells watchers and the access log; `probed` belongs to what opened. Never waits: the log and the watchers'
    /// queue drop and count what they cannot take. To be called with the lock held.
    fn publish(&self, changes: Vec<Change>, now: Instant, probed: &Probed) {
        let instance = &self.0.instance;
        let watched = self.watchers() > 0;
        for change in changes {
            match change {
                Change::Opened(entry) if watched => {
                    self.send(ConnectionEvent::Open(entry.snapshot(instance, now, probed.clone())));
                }
                Change::Opened(_) => {}
                Change::Closed(entry) => {
                    let log = self.0.access_log.get();
                    if let Some(log) = log {
                        let last = entry.last_snapshot(instance, now);
                        // Its requests are logged already.
                        if last.protocol == Protocol::Tcp {
                            log.write(last);
                        }
                    }
                    if watched {
                        self.send(ConnectionEvent::Close(entry.last_snapshot(instance, now)));
                    }
                }
            }
        }
    }

    fn send(&self, event: ConnectionEvent) {
        // It fails when the last watcher just left.
        let _ = self.0.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        // Each operation leaves the maps whole even if a later one panics.
        self.0.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tracked ===

impl Tracked {
    /// The proxy reached the upstream.
    pub fn connected(&self, upstream: UpstreamAddr) {
        // A connection has one upstream; the first word counts.
        let _ = self.half.upstream.set(upstream);
    }

    /// What decided where the connection goes.
    pub fn policy(&self, policy: impl Into<Arc<str>>) {
        // A connection is decided once; the first word counts.
        let _ = self.half.policy.set(policy.into());
    }

    /// What its bytes are, where they are not opaque. The access log has its requests then, and not the connection.
    pub fn protocol(&self, protocol: Protocol) {
        // A connection speaks one protocol; the first word counts.
        let _ = self.half.protocol.set(protocol);
    }

    /// Where its task counts bytes.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.half.counters
    }

    /// The proxy is done with it.
    pub fn close(mut self, reason: CloseReason) {
        self.close_once(reason);
    }

    fn close_once(&mut self, reason: CloseReason) {
        if !self.closed {
            self.closed = true;
            self.table.close(self, reason, Instant::now());
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.close_once(CloseReason::Aborted);
    }
}

#[cfg(test)]
mod tests;
