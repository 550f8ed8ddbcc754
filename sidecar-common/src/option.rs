//! Socket options of our own. They need no capability; the cgroup hooks answer them for the exempt proxy, and
//! everybody else gets an error as from a kernel without us, EOPNOTSUPP or ENOPROTOOPT.

use crate::address::Endpoint;
use crate::shared;

/// The level of these options ("SC"). No protocol of Linux has this number (include/linux/socket.h, SOL_*).
pub const LEVEL: i32 = 0x5343;

/// setsockopt, an [`Announce`]: the [`crate::flow::Role`] of a socket, before listen(), or `Retired` after.
pub const ROLE: i32 = 1;

/// setsockopt, a [`Forward`]: what the connection that this socket is about to make is for.
pub const FORWARD: i32 = 2;

/// getsockopt, a [`crate::connection::Record`]: the record of the connection that this accepted socket belongs to (outbound), or of
/// the program that this connected socket reached (inbound). ENOENT: the kernel half knows none.
pub const RECORD: i32 = 3;

/// getsockopt, a [`crate::bypass::Answer`]: that to the [`crate::bypass::Question`] that this UDP socket sent to itself. ENOPROTOOPT:
/// nobody has answered it, or the answer has been taken.
pub const ANSWER: i32 = 4;

/// getsockopt, this and the number of a CPU: its [`crate::stats::Counters`]. ENOPROTOOPT: there is no such CPU.
pub const COUNTERS: i32 = 0x1000;

/// The value of [`ROLE`]. The hook cannot ask for the socket's cookie, so its owner says it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announce {
    /// The socket's cookie (`SO_COOKIE`).
    pub cookie: u64,
    /// A [`crate::flow::Role`] as its number.
    pub role: u32,
    /// Zero.
    pub reserved: u32,
}

/// The value of [`FORWARD`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The socket's cookie (`SO_COOKIE`).
    pub cookie: u64,
    /// The connection's id.
    pub id: u64,
    /// The client that the server's accept() and getpeername() are to show; all zero: leave it alone.
    pub client: Endpoint,
}

shared! {
    Announce = 16;
    Forward = 40;
}
