//! Counters of the kernel half: the indices of the per-CPU array `STATS`.

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
    /// Listeners that are not steered because the map `SERVICES` or `LISTENING` was full.
    ServicesFull = 7,
    /// Events lost because the ring buffer was full.
    EventsLost = 8,
    /// Connections from sockets bound to a device, left untouched.
    PassedDeviceBound = 9,
}

/// How many counters there are.
pub const STATS: u32 = 10;

impl Stat {
    /// All of them with the names they have in metrics.
    pub const ALL: [(Self, &'static str); STATS as usize] = [
        (Self::CapturedOutbound, "captured_outbound"),
        (Self::CapturedInbound, "captured_inbound"),
        (Self::PassedProxyDown, "passed_proxy_down"),
        (Self::RefusedProxyDown, "refused_proxy_down"),
        (Self::DialsFull, "dials_full"),
        (Self::OriginsFull, "origins_full"),
        (Self::RecordsFull, "records_full"),
        (Self::ServicesFull, "services_full"),
        (Self::EventsLost, "events_lost"),
        (Self::PassedDeviceBound, "passed_device_bound"),
    ];
}
