//! Reading sockets and contexts: addresses in our form, whatever hook they come from.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr, bpf_sock_ops, bpf_sockopt};
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockOpsContext;
use core::ffi::c_void;
use sidecar_common::address::{Endpoint, Ip};
use sidecar_common::flow::{FlowKey, NetnsCookie};

use crate::maps;

/// include/linux/socket.h
pub const AF_INET: u32 = 2;
/// include/linux/socket.h
pub const AF_INET6: u32 = 10;

/// include/net/tcp_states.h
pub mod tcp {
    pub const ESTABLISHED: u32 = 1;
    pub const FIN_WAIT1: u32 = 4;
    pub const FIN_WAIT2: u32 = 5;
    pub const TIME_WAIT: u32 = 6;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
    pub const CLOSING: u32 = 11;
}

/// Reads one field of a context. The verifier wants each with its own width, and the optimizer would merge
/// neighbours into one load; volatile forbids it.
macro_rules! field {
    ($pointer:expr, $($path:tt)+) => {
        // SAFETY: the verifier checks every load of a context.
        unsafe { core::ptr::read_volatile(core::ptr::addr_of!((*$pointer).$($path)+)) }
    };
}
pub(crate) use field;

/// Writes one field of a context; see [`field`].
macro_rules! set_field {
    ($pointer:expr, $value:expr, $($path:tt)+) => {
        // SAFETY: the verifier checks every store to a context.
        unsafe { core::ptr::write_volatile(core::ptr::addr_of_mut!((*$pointer).$($path)+), $value) }
    };
}
pub(crate) use set_field;

/// Reads an IPv6 address of a context, word by word.
macro_rules! ip6 {
    ($pointer:expr, $name:ident) => {
        sidecar_common::address::Ip([
            $crate::sock::field!($pointer, $name[0]),
            $crate::sock::field!($pointer, $name[1]),
            $crate::sock::field!($pointer, $name[2]),
            $crate::sock::field!($pointer, $name[3]),
        ])
    };
}
pub(crate) use ip6;

/// Both ends of a socket.
pub struct Ends {
    /// This end.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
}

impl Ends {
    /// The key of the connection that this socket accepted.
    #[inline(always)]
    pub fn accepted(&self, netns: NetnsCookie) -> FlowKey {
        FlowKey { netns, local: self.local, remote: self.remote }
    }

    /// The key of the connection that this socket dialled: as its acceptor sees it.
    #[inline(always)]
    pub fn dialled(&self, netns: NetnsCookie) -> FlowKey {
        FlowKey { netns, local: self.remote, remote: self.local }
    }

    /// Of a socket pointer that a context carries. `None`: there is no socket.
    #[inline(always)]
    pub fn of_sock(sk: *const bpf_sock) -> Option<Self> {
        if sk.is_null() {
            return None;
        }
        // All fields are read before one is chosen: the optimizer would else merge the branches into one load at a
        // computed offset, which the verifier forbids.
        let (local4, remote4) = (Ip::v4(field!(sk, src_ip4)), Ip::v4(field!(sk, dst_ip4)));
        let local6 = ip6!(sk, src_ip6);
        let remote6 = ip6!(sk, dst_ip6);
        let (local, remote) =
            if field!(sk, family) == AF_INET { (local4, remote4) } else { (local6, remote6) };
        // bpf_sock: src_port is in host order, dst_port in network order (include/uapi/linux/bpf.h).
        let local = Endpoint::new(local, field!(sk, src_port) as u16);
        let remote = Endpoint::new(remote, u16::from_be(field!(sk, dst_port)));
        Some(Self { local, remote })
    }

    /// Of a sock_ops context. An IPv6 socket that talks IPv4 counts as IPv4: its IPv4 fields are right from the
    /// start, while its IPv6 ones may still be unset at `TCP_CONNECT_CB`.
    #[inline(always)]
    pub fn of_sock_ops(ctx: &SockOpsContext) -> Self {
        let ops: *const bpf_sock_ops = ctx.ops;
        let (local4, remote4) = (Ip::v4(field!(ops, local_ip4)), Ip::v4(field!(ops, remote_ip4)));
        let local6 = ip6!(ops, local_ip6);
        let remote6 = ip6!(ops, remote_ip6);
        let ipv4 = field!(ops, family) == AF_INET || remote6.is_v4();
        let (local, remote) = if ipv4 { (local4, remote4) } else { (local6, remote6) };
        // bpf_sock_ops: local_port is in host order, remote_port in network order (include/uapi/linux/bpf.h).
        let local = Endpoint::new(local, field!(ops, local_port) as u16);
        let remote = Endpoint::new(remote, u32::from_be(field!(ops, remote_port)) as u16);
        Self { local, remote }
    }
}

/// The socket's cookie, in connect, getpeername, release and sock_ops programs.
#[inline(always)]
pub fn cookie<C>(ctx: *mut C) -> u64 {
    // SAFETY: the helper takes the program's own context.
    unsafe { bpf_get_socket_cookie(ctx.cast::<c_void>()) }
}

/// The network namespace of a connect or getpeername context. Those programs have the helper since 5.7. Where the
/// others lack it (before 5.15), the proxy's namespace is 0, as they say it; under another's cookie nothing is found,
/// so what its programs dial is left alone rather than sent to a loopback on which no proxy listens.
#[inline(always)]
pub fn netns_of_addr(ctx: *mut bpf_sock_addr) -> NetnsCookie {
    // SAFETY: the helper takes the program's own context.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.cast()) };
    if maps::has_netns_cookie() || maps::is_elsewhere(cookie) { cookie } else { 0 }
}

/// Where only this kind of program can tell network namespaces apart, learns the proxy's from one of its own
/// connect() calls.
#[inline(always)]
pub fn learn_home(ctx: *mut bpf_sock_addr) {
    if !maps::has_netns_cookie() {
        // SAFETY: the helper takes the program's own context.
        maps::set_home(unsafe { bpf_get_netns_cookie(ctx.cast()) });
    }
}

/// The network namespace of a sockopt context.
#[inline(always)]
pub fn netns_of_sockopt(ctx: *mut bpf_sockopt) -> NetnsCookie {
    netns(ctx.cast())
}

/// The network namespace of a sock_ops context.
#[inline(always)]
pub fn netns_of_sock_ops(ctx: &SockOpsContext) -> NetnsCookie {
    netns(ctx.as_ptr())
}

#[inline(always)]
fn netns(ctx: *mut c_void) -> NetnsCookie {
    if maps::has_netns_cookie() {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_netns_cookie(ctx) }
    } else {
        0
    }
}
