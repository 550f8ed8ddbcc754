//! Counters of the kernel half: what the map `STATS` holds for each CPU.

use crate::shared;

/// Words of a CPU's counters, some of which are left.
const ROOM: usize = 24;

/// The counters of one CPU, by [`Stat`]. What is left of its last cache line keeps CPUs apart.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters(pub [u64; ROOM]);

/// A counter's index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Stat {
    /// Outbound connections handed to the proxy.
    CapturedOutbound = 0,
    /// Inbound connections handed to the proxy.
    CapturedInbound = 1,
    /// Connections untouched because no proxy listened.
    PassedProxyDown = 2,
    /// Connections refused because no proxy listened.
    RefusedProxyDown = 3,
    /// Connections of the proxy that could not be marked as its own because the map `DIALS` was full.
    DialsFull = 4,
    /// Captured connections whose destination could not be published because the map `ORIGINS` was full.
    OriginsFull = 5,
    /// Connections untouched or refused, as `onProxyDown` says, because the map `RECORDS` was full.
    RecordsFull = 6,
    /// Listeners that are not steered because the map `SERVICES`, `PROXY` or `PROXY_SOCKETS` was full.
    ServicesFull = 7,
    /// Events lost because the ring buffer was full.
    EventsLost = 8,
    /// Connections from sockets bound to a device, left untouched.
    PassedDeviceBound = 9,
    /// Messages that went from socket to socket without the TCP stack.
    RedirectedMessages = 10,
    /// Bytes that went from socket to socket without the TCP stack.
    RedirectedBytes = 11,
    /// Messages of enrolled sockets by TCP: their direction is not redirected.
    FallbackOff = 12,
    /// Messages of enrolled sockets by TCP: earlier ones were on their way by it.
    FallbackUnacknowledged = 13,
    /// Messages of enrolled sockets by TCP: the receiver had not read earlier ones.
    FallbackUnread = 14,
    /// Messages of enrolled sockets by TCP: the receiver's buffer was full.
    FallbackFull = 15,
    /// Messages of enrolled sockets by TCP: the receiver was closing or gone.
    FallbackGone = 16,
    /// Messages of enrolled sockets by TCP: the receiver's program would not see them.
    FallbackReader = 17,
    /// Bytes that TCP brought a second time to an enrolled socket, and that were left out.
    RepeatedBytes = 18,
    /// Enrolled connections that were broken off because bytes of theirs could not be handed on.
    BrokenConnections = 19,
}

impl Stat {
    /// All of them, with their names in metrics and what they count.
    pub const ALL: [(Self, &'static str, &'static str); 20] = [
        (Self::CapturedOutbound, "captured_outbound", "Outbound connections handed to the proxy"),
        (Self::CapturedInbound, "captured_inbound", "Inbound connections handed to the proxy"),
        (Self::PassedProxyDown, "passed_proxy_down", "Connections untouched because no proxy listened"),
        (Self::RefusedProxyDown, "refused_proxy_down", "Connections refused because no proxy listened"),
        (Self::DialsFull, "dials_full", "Connections of the proxy that could not be marked as its own"),
        (Self::OriginsFull, "origins_full", "Captured connections whose destination could not be published"),
        (
            Self::RecordsFull,
            "records_full",
            "Connections untouched or refused because there was no room for them",
        ),
        (Self::ServicesFull, "services_full", "Listeners that could not be noted and are not steered"),
        (Self::EventsLost, "events_lost", "Events lost because the ring buffer was full"),
        (Self::PassedDeviceBound, "passed_device_bound", "Connections untouched because bound to a device"),
        (
            Self::RedirectedMessages,
            "redirected_messages",
            "Messages that went from socket to socket without the TCP stack",
        ),
        (
            Self::RedirectedBytes,
            "redirected_bytes",
            "Bytes that went from socket to socket without the TCP stack",
        ),
        (
            Self::FallbackOff,
            "fallback_off",
            "Messages of enrolled sockets by TCP: their direction is not redirected",
        ),
        (
            Self::FallbackUnacknowledged,
            "fallback_unacknowledged",
            "Messages of enrolled sockets by TCP: earlier ones were on their way by it",
        ),
        (
            Self::FallbackUnread,
            "fallback_unread",
            "Messages of enrolled sockets by TCP: the receiver had not read earlier ones",
        ),
        (
            Self::FallbackFull,
            "fallback_full",
            "Messages of enrolled sockets by TCP: the receiver's buffer was full",
        ),
        (
            Self::FallbackGone,
            "fallback_gone",
            "Messages of enrolled sockets by TCP: the receiver was closing or gone",
        ),
        (
            Self::FallbackReader,
            "fallback_reader",
            "Messages of enrolled sockets by TCP: the receiver's program would not see them",
        ),
        (
            Self::RepeatedBytes,
            "repeated_bytes",
            "Bytes that TCP brought a second time to enrolled sockets, and that were left out",
        ),
        (
            Self::BrokenConnections,
            "broken_connections",
            "Enrolled connections that were broken off because bytes of theirs could not be handed on",
        ),
    ];
}

const _: () = assert!(Stat::ALL.len() + 4 <= ROOM);

impl Counters {
    /// The sum of those of all CPUs.
    pub fn sum(of_cpus: impl Iterator<Item = Self>) -> Self {
        of_cpus
            .fold(Self::default(), |sum, one| Self(core::array::from_fn(|i| sum.0[i].wrapping_add(one.0[i]))))
    }

    /// One of them.
    pub const fn get(&self, stat: Stat) -> u64 {
        self.0[stat as usize]
    }
}

shared! {
    Counters = 192;
}
