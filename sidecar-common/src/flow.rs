//! What identifies a connection across sockets, and what is remembered under it.

use crate::address::Endpoint;
use crate::shared;

/// A cookie that names a network namespace (`bpf_get_netns_cookie`); 0 where the kernel cannot tell (before 5.15).
pub type NetnsCookie = u64;

/// A connection as its *accepting* socket sees it. Unique within a machine as long as the connection lives.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowKey {
    /// The network namespace of both ends.
    pub netns: NetnsCookie,
    /// The accepting end.
    pub local: Endpoint,
    /// The connecting end.
    pub remote: Endpoint,
}

/// Which of the proxy's listeners, in which network namespace.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerKey {
    /// Where it listens.
    pub netns: NetnsCookie,
    /// A [`Role`] as its number.
    pub role: u32,
    /// 4 or 6.
    pub family: u32,
}

/// A listener of the proxy that is up.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The listening socket; a later listener replaces an earlier one.
    pub cookie: u64,
    /// The port, host order.
    pub port: u16,
    /// Zero.
    pub reserved: [u8; 6],
}

/// What a socket of the proxy is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Role {
    /// Accepts what armed programs dial.
    Outbound = 1,
    /// Accepts what is steered from the ports of armed programs.
    Inbound = 2,
    /// A listener of the proxy's own, never steered.
    Own = 3,
    /// Was an outbound or inbound listener and takes no new connections: the proxy drains.
    Retired = 4,
}

/// A listener of an armed program: its port is steered.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceKey {
    /// Where it listens.
    pub netns: NetnsCookie,
    /// The address it listens on (`0.0.0.0` or `::` for all) and the port.
    pub endpoint: Endpoint,
}

/// Who listens on a [`ServiceKey`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// How many listening sockets share it (`SO_REUSEPORT`). At 0 nobody listens; the entry stays, since removing
    /// it would race with the next listen().
    pub listeners: u64,
    /// The program that listened last.
    pub program: Program,
}

/// A program, as the kernel names it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// Its cgroup's id (the inode number of its directory).
    pub cgroup: u64,
    /// Its process id in the initial pid namespace; 0 when not known.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
    /// The name of the thread, zero-terminated.
    pub comm: [u8; 16],
}

/// Whose connection a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Intent {
    /// An armed program's, redirected to the proxy.
    Captured = 1,
    /// The proxy's own.
    Proxy = 2,
}

/// The origin of a connection to the proxy or from it, under its [`FlowKey`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// `Captured`: what the program dialled. `Proxy`: the real client, or zero.
    pub address: Endpoint,
    /// The connection's id: the program's socket cookie, or what the proxy told.
    pub id: u64,
    /// The cookie of the socket that accepted it; 0 until then. The entry lives as long as that socket: its owner
    /// may ask long after the connecting end is gone.
    pub accepted: u64,
    /// An [`Intent`] as its number.
    pub intent: u32,
    /// Zero.
    pub reserved: u32,
}

shared! {
    FlowKey = 56;
    ListenerKey = 16;
    Listener = 16;
    ServiceKey = 32;
    Service = 40;
    Program = 32;
    Origin = 48;
}
