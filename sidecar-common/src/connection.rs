//! A connection's record, and the events of the ring buffer.

use crate::address::Endpoint;
use crate::flow::Program;
use crate::shared;

/// What the kernel half knows of a connection of an armed program. Kept from connect() (outbound) or from the
/// accepted handshake (inbound) until the program's socket closes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Outbound: the cookie of the program's socket, which keeps it if it connects again. Inbound: the cookie of the
    /// socket that the proxy accepted. No two sockets have the same while the machine is up.
    pub id: u64,
    /// The network namespace of the program's socket.
    pub netns: u64,
    /// When it was opened: nanoseconds of `CLOCK_MONOTONIC`.
    pub opened_ns: u64,
    /// Payload that the program sent and its peer's TCP acknowledged, in bytes.
    pub bytes_sent: u64,
    /// Payload that the program's TCP received, in bytes.
    pub bytes_received: u64,
    /// Who opened it.
    pub source: Endpoint,
    /// Where it was meant to go.
    pub original_destination: Endpoint,
    /// The program whose socket this is.
    pub program: Program,
    /// Smoothed round-trip time of the program's socket, in microseconds.
    pub rtt_us: u32,
    /// Segments that the program's socket sent again.
    pub retransmits: u32,
    /// A [`crate::settings::Direction`] as its number.
    pub direction: u32,
    /// The kernel's TCP state (include/net/tcp_states.h) of the program's socket.
    pub state: u32,
    /// Bits of [`phantom`].
    pub phantoms: u32,
    /// Not 0: the program has spliced from its socket (splice(2)).
    pub spliced: u32,
}

/// Octets that the kernel's byte counters hold and that are no payload: a SYN and a FIN take a sequence number each
/// (RFC 9293 section 3.4).
pub mod phantom {
    /// The program's SYN, which was acknowledged.
    pub const SYN_SENT: u32 = 1 << 0;
    /// The program's FIN, which was acknowledged.
    pub const FIN_SENT: u32 = 1 << 1;
    /// The peer's FIN.
    pub const FIN_RECEIVED: u32 = 1 << 2;
}

/// What an [`Event`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum EventKind {
    /// The handshake is done.
    Open = 1,
    /// The program's socket closed.
    Close = 2,
    /// A decision of the connect or lookup program; only with the debug switch.
    Decision = 3,
}

/// An entry of the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// An [`EventKind`] as its number.
    pub kind: u32,
    /// `Decision`: a [`crate::settings::Verdict`] as its number.
    pub verdict: u32,
    /// The connection.
    pub record: Record,
}

shared! {
    Record = 144;
    Event = 152;
}
