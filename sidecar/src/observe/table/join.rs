//! Joins the two halves of connections. Pure: no clock, no lock, no channel.
//!
//! A half may come late or, the kernel's, never: the ring buffer may lag behind the proxy, and loses events when it
//! is full. The proxy's half closes for certain. Hence:
//!
//! - A connection opens when the proxy's half appears, or [`PATIENCE`] after the kernel's did, alone.
//! - It closes when all halves that appeared are closed, or [`PATIENCE`] after the proxy's. While the proxy's half is
//!   open the connection is, too: a program may be gone while its upstream still talks.
//! - For [`PATIENCE`] after its close an id is remembered, so that late events of the kernel do not open it again.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidecar_common::bypass::{Counts, Fallback};

use super::half::{KernelHalf, Opening, Probed, ProxyHalf};
use crate::net::addrs::{ClientAddr, ConnectionId, Direction, OrigDst};
use crate::observe::close_reason::CloseReason;
use crate::observe::connection::{BytePath, Protocol, SameNode, Snapshot, State};

/// How long one half waits for the other.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Connections by their id.
pub(super) struct Joined {
    capacity: usize,
    /// In boxes: the map has room for up to twice as many as there are.
    live: HashMap<ConnectionId, Box<Entry>>,
    /// When each recent connection closed. Holds at most `capacity`; beyond it late events are not recognised.
    finished: HashMap<ConnectionId, Instant>,
}

/// A connection of one or two halves.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    facts: Facts,
    since: Instant,
    announced: bool,
    proxy: Option<ProxySide>,
    kernel: Option<KernelSide>,
}

/// What either half knows; the proxy's word counts.
#[derive(Clone, Copy, Debug)]
struct Facts {
    id: ConnectionId,
    direction: Direction,
    source: ClientAddr,
    original_destination: Option<OrigDst>,
}

#[derive(Clone, Debug)]
struct ProxySide {
    half: Arc<ProxyHalf>,
    closed: Option<ProxyClosed>,
}

/// How the proxy's half ended.
#[derive(Clone, Debug)]
pub(super) struct ProxyClosed {
    pub(super) at: Instant,
    pub(super) reason: CloseReason,
    /// What the kernel said last.
    pub(super) probed: Probed,
}

#[derive(Clone, Debug)]
struct KernelSide {
    half: KernelHalf,
    closed: bool,
}

/// What is to be told.
#[derive(Debug)]
pub(super) enum Change {
    Opened(Entry),
    Closed(Entry),
}

// === impl Joined ===

impl Joined {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, live: HashMap::new(), finished: HashMap::new() }
    }

    /// The connections that were told of.
    pub(super) fn announced(&self) -> impl Iterator<Item = &Entry> {
        self.live.values().map(|entry| &**entry).filter(|entry| entry.announced)
    }

    /// Those whose program's socket is open as far as events say.
    pub(super) fn open_in_kernel(&self) -> Vec<ConnectionId> {
        let open = |entry: &Entry| entry.kernel.as_ref().is_some_and(|kernel| !kernel.closed);
        self.live.iter().filter(|(_, entry)| open(entry)).map(|(&id, _)| id).collect()
    }

    /// The proxy's half appears. False: it is not listed, since the table is full.
    ///
    /// A program may call connect() again on a socket, which keeps its cookie: the new connection takes the id over,
    /// even if the old one has not ended yet.
    pub(super) fn proxy_opens(
        &mut self,
        half: Arc<ProxyHalf>,
        now: Instant,
        changes: &mut Vec<Change>,
    ) -> bool {
        let id = half.opening.id;
        match self.live.get(&id).and_then(|entry| entry.proxy.as_ref()) {
            Some(ProxySide { closed: None, .. }) => drop(self.live.remove(&id)),
            Some(_) => self.finish(id, now, changes),
            None => {}
        }
        if self.live.len() >= self.capacity && !self.live.contains_key(&id) {
            return false;
        }
        self.finished.remove(&id);
        let facts = Facts::of_proxy(&half.opening);
        let entry = self.live.entry(id).or_insert_with(|| Box::new(Entry::new(facts, now)));
        entry.facts = facts;
        entry.proxy = Some(ProxySide { half, closed: None });
        entry.announce(changes);
        true
    }

    /// The proxy's half ends. Gives `closed` back if it is not listed under its id any more.
    pub(super) fn proxy_closes(
        &mut self,
        half: &Arc<ProxyHalf>,
        closed: ProxyClosed,
        changes: &mut Vec<Change>,
    ) -> Option<ProxyClosed> {
        let (id, now) = (half.opening.id, closed.at);
        match self.live.get_mut(&id).and_then(|entry| entry.proxy.as_mut()) {
            Some(side) if Arc::ptr_eq(&side.half, half) => side.closed = Some(closed),
            _ => return Some(closed),
        }
        self.finish_if_over(id, now, changes);
        None
    }

    /// The kernel tells of its half.
    pub(super) fn kernel_tells(
        &mut self,
        half: KernelHalf,
        closed: bool,
        now: Instant,
        changes: &mut Vec<Change>,
    ) {
        let id = half.id;
        let known = self.live.contains_key(&id);
        if self.finished.contains_key(&id) || (!known && self.live.len() >= self.capacity) {
            return;
        }
        let entry = self.live.entry(id);
        let entry = entry.or_insert_with(|| Box::new(Entry::new(Facts::of_kernel(&half), now)));
        entry.kernel = Some(KernelSide { half, closed });
        self.finish_if_over(id, now, changes);
    }

    /// The program's socket is gone, though no event said so.
    pub(super) fn kernel_lost(&mut self, id: ConnectionId, now: Instant, changes: &mut Vec<Change>) {
        if let Some(kernel) = self.live.get_mut(&id).and_then(|entry| entry.kernel.as_mut()) {
            kernel.closed = true;
        }
        self.finish_if_over(id, now, changes);
    }

    /// Ends all waiting that took long enough.
    pub(super) fn sweep(&mut self, now: Instant, changes: &mut Vec<Change>) {
        let late = |then: Instant| now.saturating_duration_since(then) >= PATIENCE;
        self.finished.retain(|_, then| !late(*then));
        let mut over = Vec::new();
        for (&id, entry) in &mut self.live {
            match &entry.proxy {
                Some(side) if side.closed.as_ref().is_some_and(|closed| late(closed.at)) => over.push(id),
                None if late(entry.since) => {
                    entry.announce(changes);
                    if entry.is_over() {
                        over.push(id);
                    }
                }
                _ => {}
            }
        }
        for id in over {
            self.finish(id, now, changes);
        }
    }

    fn finish_if_over(&mut self, id: ConnectionId, now: Instant, changes: &mut Vec<Change>) {
        if self.live.get(&id).is_some_and(|entry| entry.is_over()) {
            self.finish(id, now, changes);
        }
    }

    fn finish(&mut self, id: ConnectionId, now: Instant, changes: &mut Vec<Change>) {
        if let Some(entry) = self.live.remove(&id) {
            if self.finished.len() < self.capacity {
                self.finished.insert(id, now);
            }
            changes.push(Change::Closed(*entry));
        }
    }
}

// === impl Facts ===

impl Facts {
    fn of_proxy(opening: &Opening) -> Self {
        let Opening { id, direction, source, original_destination, .. } = *opening;
        Self { id, direction, source, original_destination }
    }

    fn of_kernel(half: &KernelHalf) -> Self {
        let KernelHalf { id, direction, source, original_destination, .. } = *half;
        Self { id, direction, source, original_destination }
    }
}

// === impl Entry ===

impl Entry {
    fn new(facts: Facts, now: Instant) -> Self {
        Self { facts, since: now, announced: false, proxy: None, kernel: None }
    }

    /// A connection that the proxy serves, and no table lists.
    pub(super) fn unlisted(half: Arc<ProxyHalf>, since: Instant, closed: ProxyClosed) -> Self {
        let entry = Self::new(Facts::of_proxy(&half.opening), since);
        Self { proxy: Some(ProxySide { half, closed: Some(closed) }), ..entry }
    }

    fn announce(&mut self, changes: &mut Vec<Change>) {
        if !self.announced {
            self.announced = true;
            changes.push(Change::Opened(self.clone()));
        }
    }

    /// True when all halves that appeared are closed. A kernel half alone has to be told of first: the proxy's may
    /// still come, from the backlog of its listener.
    fn is_over(&self) -> bool {
        let kernel_closed = self.kernel.as_ref().is_none_or(|kernel| kernel.closed);
        match &self.proxy {
            Some(side) => side.closed.is_some() && kernel_closed,
            None => self.announced && kernel_closed,
        }
    }

    /// The proxy's half while it is open.
    pub(super) fn served(&self) -> Option<&ProxyHalf> {
        self.proxy.as_ref().filter(|side| side.closed.is_none()).map(|side| &*side.half)
    }

    /// The connection as users see it. `probed` is what the kernel says now; a closed half has its own.
    pub(super) fn snapshot(&self, instance: &str, now: Instant, probed: Probed) -> Snapshot {
        let proxy = self.proxy.as_ref().map(|side| &*side.half);
        let kernel = self.kernel.as_ref().map(|side| &side.half);
        let closed = self.proxy.as_ref().and_then(|side| side.closed.as_ref());
        let probed = closed.map_or(probed, |closed| closed.probed.clone());
        let program = probed
            .program
            .or_else(|| proxy.and_then(|half| half.opening.program.clone()))
            .or_else(|| kernel.map(|half| half.program.clone()));
        let (bytes_sent, bytes_received) = proxy
            .map(ProxyHalf::bytes)
            .or(kernel.map(|half| (half.bytes_sent, half.bytes_received)))
            .unwrap_or_default();
        let bypass = proxy.map(ProxyHalf::bypass).unwrap_or_default();
        let same_node = proxy.and_then(ProxyHalf::same_node).map(|hop| SameNode {
            bypass: hop.standing,
            bypass_reason: hop.reason.map(Cow::into_owned),
            bytes_sent: hop.to_program.bytes,
            bytes_received: hop.to_proxy.bytes,
            messages: hop.to_program.messages + hop.to_proxy.messages,
            tcp_fallbacks: fallbacks(&hop.to_program, &hop.to_proxy),
        });
        let (sent, received) = (bypass.to_proxy, bypass.to_program);
        let age = now.saturating_duration_since(self.since).as_millis();
        Snapshot {
            id: self.facts.id.0,
            instance: instance.to_owned(),
            direction: self.facts.direction,
            pid: program.as_ref().map(|program| program.pid).filter(|&pid| pid != 0),
            comm: program.as_ref().map(|program| program.comm.clone()).filter(|comm| !comm.is_empty()),
            cgroup: program.and_then(|program| program.cgroup),
            source: self.facts.source.0,
            original_destination: self.facts.original_destination.map(|destination| destination.0),
            upstream: proxy.and_then(|half| half.upstream.get()).map(|upstream| upstream.0),
            protocol: proxy.and_then(|half| half.protocol.get()).copied().unwrap_or(Protocol::Tcp),
            state: self.state(),
            age_ms: u64::try_from(age).unwrap_or(u64::MAX),
            bytes_sent,
            bytes_received,
            path: BytePath::of(bytes_sent + bytes_received, sent.bytes + received.bytes),
            bypass_bytes_sent: sent.bytes,
            bypass_bytes_received: received.bytes,
            bypass_messages: sent.messages + received.messages,
            tcp_fallbacks: fallbacks(&sent, &received),
            bypass: bypass.standing,
            bypass_reason: bypass.reason.map(Cow::into_owned),
            same_node,
            rtt_us: probed.rtt_us.or(kernel.and_then(|half| half.rtt_us)),
            retransmits: probed.retransmits.or(kernel.map(|half| half.retransmits)),
            policy: proxy.and_then(|half| half.policy.get()).map(ToString::to_string),
            close_reason: closed.map(|closed| closed.reason),
        }
    }

    /// The connection when it is over.
    pub(super) fn last_snapshot(&self, instance: &str, now: Instant) -> Snapshot {
        let last = self.snapshot(instance, now, Probed::default());
        let close_reason = last.close_reason.or(Some(CloseReason::NotProxied));
        Snapshot { state: State::Closed, close_reason, ..last }
    }

    fn state(&self) -> State {
        let kernel_closed = self.kernel.as_ref().is_some_and(|kernel| kernel.closed);
        match &self.proxy {
            Some(side) if side.closed.is_some() || kernel_closed => State::Closing,
            Some(side) if side.half.upstream.get().is_none() => State::Connecting,
            None if kernel_closed => State::Closing,
            _ => State::Open,
        }
    }
}

/// Reasons by name, in the order of the names.
fn fallbacks(sent: &Counts, received: &Counts) -> BTreeMap<Cow<'static, str>, u32> {
    let by_reason = Fallback::ALL.map(|(reason, name)| {
        let index = reason as usize;
        (name, sent.fallbacks[index].saturating_add(received.fallbacks[index]))
    });
    by_reason.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.into(), count)).collect()
}

#[cfg(test)]
mod tests;
