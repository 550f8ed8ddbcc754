//! The two halves of a connection: what the proxy knows and what the kernel half tells.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use sidecar_common::connection::{Event, EventKind, Record};
use sidecar_common::{flow, settings};

use crate::bypass::hop::State;
use crate::net::addrs::{ClientAddr, ConnectionId, Direction, OrigDst, UpstreamAddr};
use crate::observe::connection::{Program, Protocol};

/// A connection that the proxy begins to serve.
pub struct Opening {
    /// Its name.
    pub id: ConnectionId,
    /// Seen from the program.
    pub direction: Direction,
    /// Who opened it.
    pub source: ClientAddr,
    /// Where it was meant to go, where that is known.
    pub original_destination: Option<OrigDst>,
    /// The program, where that is known already; [`Probe`] may tell later.
    pub program: Option<Program>,
    /// What can say more while the connection is up.
    pub probe: Weak<dyn Probe + Send + Sync>,
}

/// Asks the kernel about a connection. Called only when somebody looks, and at the close.
pub trait Probe {
    /// What the kernel says now.
    fn probe(&self) -> Probed;
}

/// The answer of a [`Probe`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Probed {
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// Segments sent again.
    pub retransmits: Option<u32>,
    /// The program.
    pub program: Option<Program>,
}

/// Payload that the proxy moved, in bytes, whichever path it took.
#[derive(Default, Debug)]
pub struct Counters {
    /// From the program to its peer.
    pub sent: AtomicU64,
    /// From the peer to the program.
    pub received: AtomicU64,
    /// What of it went from socket to socket, and why the rest did not.
    pub bypass: Arc<Mutex<State>>,
    /// The same of the hop to another proxy of this machine, where one is looked for.
    pub same_node: OnceLock<Arc<Mutex<State>>>,
}

/// An event of the kernel half.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KernelEvent {
    /// The handshake of the program's socket is done.
    Open(KernelHalf),
    /// The program's socket closed.
    Close(KernelHalf),
}

/// What the kernel half knows of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelHalf {
    /// Its name.
    pub id: ConnectionId,
    /// Seen from the program.
    pub direction: Direction,
    /// Who opened it.
    pub source: ClientAddr,
    /// Where it was meant to go.
    pub original_destination: Option<OrigDst>,
    /// The program.
    pub program: Program,
    /// Payload from the program, acknowledged by its peer's TCP.
    pub bytes_sent: u64,
    /// Payload to the program.
    pub bytes_received: u64,
    /// Smoothed round-trip time of the program's socket, in microseconds.
    pub rtt_us: Option<u32>,
    /// Segments that the program's socket sent again.
    pub retransmits: u32,
}

/// The proxy's half: fixed facts, and what its task writes without a lock.
pub(super) struct ProxyHalf {
    pub(super) opening: Opening,
    pub(super) counters: Arc<Counters>,
    pub(super) upstream: OnceLock<UpstreamAddr>,
    pub(super) policy: OnceLock<Arc<str>>,
    pub(super) protocol: OnceLock<Protocol>,
}

// === impl ===

impl ProxyHalf {
    pub(super) fn new(opening: Opening) -> Self {
        Self {
            opening,
            counters: Arc::default(),
            upstream: OnceLock::new(),
            policy: OnceLock::new(),
            protocol: OnceLock::new(),
        }
    }

    pub(super) fn probe(&self) -> Probed {
        self.opening.probe.upgrade().map(|probe| probe.probe()).unwrap_or_default()
    }

    /// Bytes sent and received until now.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.counters.sent.load(Ordering::Relaxed), self.counters.received.load(Ordering::Relaxed))
    }

    /// Where its hop stands, as far as it was asked.
    pub(super) fn bypass(&self) -> State {
        self.counters.bypass.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same of the hop to another proxy; `None`: it was not looked for.
    pub(super) fn same_node(&self) -> Option<State> {
        let state = self.counters.same_node.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        state.reason.is_some().then(|| state.clone())
    }
}

impl Program {
    /// A program as the kernel half names it; `cgroup` is the path of its cgroup.
    pub fn from_kernel(program: &flow::Program, cgroup: Option<String>) -> Self {
        let end = program.comm.iter().position(|&byte| byte == 0).unwrap_or(program.comm.len());
        let comm = String::from_utf8_lossy(&program.comm[..end]).into_owned();
        Self { pid: program.pid, comm, cgroup }
    }
}

impl KernelHalf {
    /// What a record says; `cgroup` is the path of the record's cgroup. None for a record without a direction, which
    /// no connection has.
    pub fn from_record(record: &Record, cgroup: Option<String>) -> Option<Self> {
        let direction = match record.direction {
            d if d == settings::Direction::Inbound as u32 => Direction::Inbound,
            d if d == settings::Direction::Outbound as u32 => Direction::Outbound,
            _ => return None,
        };
        let destination = record.original_destination;
        Some(Self {
            id: ConnectionId(record.id),
            direction,
            source: ClientAddr(record.source.into()),
            original_destination: (destination.port != 0).then(|| OrigDst(destination.into())),
            program: Program::from_kernel(&record.program, cgroup),
            bytes_sent: record.bytes_sent,
            bytes_received: record.bytes_received,
            rtt_us: (record.rtt_us > 0).then_some(record.rtt_us),
            retransmits: record.retransmits,
        })
    }
}

impl KernelEvent {
    /// An entry of the ring buffer; `cgroup_path` finds the path of a cgroup by its id. None for entries that are
    /// not about a connection's life.
    pub fn from_ring(event: &Event, cgroup_path: impl FnOnce(u64) -> Option<String>) -> Option<Self> {
        let half = || KernelHalf::from_record(&event.record, cgroup_path(event.record.program.cgroup));
        match event.kind {
            kind if kind == EventKind::Open as u32 => half().map(Self::Open),
            kind if kind == EventKind::Close as u32 => half().map(Self::Close),
            _ => None,
        }
    }
}

impl fmt::Debug for ProxyHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyHalf").field("id", &self.opening.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sidecar_common::address::Endpoint;

    use super::*;

    fn record() -> Record {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"curl");
        Record {
            id: 9,
            source: Endpoint::from("10.0.0.1:1000".parse::<std::net::SocketAddr>().unwrap()),
            program: flow::Program { cgroup: 5, pid: 42, reserved: 0, comm },
            direction: settings::Direction::Inbound as u32,
            bytes_sent: 3,
            rtt_us: 85,
            ..Record::default()
        }
    }

    #[test]
    fn a_ring_entry_becomes_an_event() {
        let event = Event { kind: EventKind::Close as u32, verdict: 0, record: record() };
        let Some(KernelEvent::Close(half)) = KernelEvent::from_ring(&event, |id| Some(format!("/{id}")))
        else {
            panic!("no close event");
        };
        assert_eq!(half.id, ConnectionId(9));
        assert_eq!(half.direction, Direction::Inbound);
        assert_eq!(half.source.to_string(), "10.0.0.1:1000");
        assert_eq!(half.original_destination, None, "port 0 is no destination");
        assert_eq!(half.program, Program { pid: 42, comm: "curl".into(), cgroup: Some("/5".into()) });
        assert_eq!((half.bytes_sent, half.rtt_us), (3, Some(85)));
    }

    #[test]
    fn decisions_and_directionless_records_are_no_events() {
        let decision = Event { kind: EventKind::Decision as u32, verdict: 1, record: record() };
        assert_eq!(KernelEvent::from_ring(&decision, |_| None), None);
        let directionless =
            Event { kind: EventKind::Open as u32, verdict: 0, record: Record { direction: 0, ..record() } };
        assert_eq!(KernelEvent::from_ring(&directionless, |_| None), None);
    }
}
