//! What userspace sets and the kernel half reads.

use crate::shared;

/// Which way a connection goes, seen from the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// The program accepted it.
    Inbound = 1,
    /// The program dialled it.
    Outbound = 2,
}

/// The instance's settings: the one entry of the map `SETTINGS`. May change while armed.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// The cgroup of the proxy, whose connections are exempt; 0: no such exemption.
    pub exempt_cgroup: u64,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Sockets with this mark are exempt; 0: no such exemption.
    pub exempt_mark: u32,
    /// Programs of this user are exempt; [`NO_UID`]: no such exemption.
    pub exempt_uid: u32,
    /// A listener on this port is the proxy's, though it did not say so (an unmodified proxy); 0: none.
    pub outbound_port: u16,
    /// The same for inbound.
    pub inbound_port: u16,
}

/// [`Settings::exempt_uid`] when there is none: `(uid_t)-1` is nobody's (credentials(7)).
pub const NO_UID: u32 = u32::MAX;

/// Bits of [`Settings::flags`].
pub mod flag {
    /// Loopback destinations are captured as well.
    pub const CAPTURE_LOOPBACK: u32 = 1 << 0;
    /// Without a proxy, connections are refused (`onProxyDown: closed`).
    pub const FAIL_CLOSED: u32 = 1 << 1;
    /// Outbound: only the ports in `PORTS` marked included.
    pub const OUTBOUND_INCLUDE_PORTS: u32 = 1 << 2;
    /// Inbound: only the ports in `PORTS` marked included.
    pub const INBOUND_INCLUDE_PORTS: u32 = 1 << 3;
    /// Outbound: only destinations in `INCLUDE`. Otherwise all.
    pub const OUTBOUND_INCLUDE_CIDRS: u32 = 1 << 4;
    /// Inbound: only clients in `INCLUDE`. Otherwise all.
    pub const INBOUND_INCLUDE_CIDRS: u32 = 1 << 6;
    /// Every decision is written to the ring buffer.
    pub const TRACE: u32 = 1 << 5;
}

/// The key of the map `PORTS`: a port of one direction.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortKey {
    /// A [`Direction`] as its number.
    pub direction: u16,
    /// The port, host order.
    pub port: u16,
}

/// Bits of the values of the map `PORTS`.
pub mod port_rule {
    /// Listed under `includePorts`.
    pub const INCLUDE: u32 = 1 << 0;
    /// Listed under `excludePorts`; wins.
    pub const EXCLUDE: u32 = 1 << 1;
}

/// What the kernel half decided on a connection, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// To the proxy.
    Captured = 1,
    /// Untouched: the proxy's own.
    Exempt = 2,
    /// Untouched: a loopback destination.
    Loopback = 3,
    /// Untouched: the include and exclude lists say so.
    NotSelected = 4,
    /// No proxy listens: untouched or refused, as `onProxyDown` says.
    ProxyDown = 5,
    /// A map was full: untouched or refused, as `onProxyDown` says.
    MapFull = 6,
    /// Untouched: the socket is bound to a device, from which loopback cannot be reached.
    DeviceBound = 7,
    /// Untouched: an IPv6 link-local address, whose interface the proxy would not know.
    LinkLocal = 8,
}

shared! {
    Settings = 24;
    PortKey = 4;
}
