//! getpeername(), and accept() with an address, which asks the same hook: show the addresses that programs expect.

use aya_ebpf::bindings::bpf_sock_addr;
use sidecar_common::address::Endpoint;
use sidecar_common::flow::Intent;
use sidecar_common::settings::Direction;

use crate::maps::{ORIGINS, RECORDS};
use crate::record;
use crate::sock::{Ends, cookie, netns_of_addr, set_field};

/// IPv4 sockets.
#[inline(always)]
pub fn v4(ctx: *mut bpf_sock_addr) {
    if let Some(peer) = shown_peer(ctx) {
        set_field!(ctx, peer.ip.0[3], user_ip4);
        set_field!(ctx, u32::from(peer.port.to_be()), user_port);
    }
}

/// IPv6 sockets. One that talks IPv4 is shown the IPv4-mapped form, which is how we hold addresses.
#[inline(always)]
pub fn v6(ctx: *mut bpf_sock_addr) {
    if let Some(peer) = shown_peer(ctx) {
        set_field!(ctx, peer.ip.0[0], user_ip6[0]);
        set_field!(ctx, peer.ip.0[1], user_ip6[1]);
        set_field!(ctx, peer.ip.0[2], user_ip6[2]);
        set_field!(ctx, peer.ip.0[3], user_ip6[3]);
        set_field!(ctx, u32::from(peer.port.to_be()), user_port);
    }
}

/// For a captured client: what it dialled. For a server behind the proxy: the real client. `None`: the truth.
#[inline(always)]
fn shown_peer(ctx: *mut bpf_sock_addr) -> Option<Endpoint> {
    if let Some(record) = RECORDS.get_ptr_mut(cookie(ctx)) {
        // SAFETY: see `maps`.
        let record = unsafe { &mut *record };
        if record.direction == Direction::Outbound as u32 {
            return Some(record.original_destination);
        }
        if record.program.pid == 0 {
            // The listener was there before we were, or this kernel does not tell at listen().
            record.program = record::program_of_caller();
        }
    }
    // SAFETY: `sk` is a context field; `of_sock` handles a null one.
    let ends = Ends::of_sock(unsafe { (*ctx).__bindgen_anon_1.sk })?;
    let netns = netns_of_addr(ctx);
    // SAFETY: see `maps`.
    if let Some(origin) = unsafe { ORIGINS.get(ends.accepted(netns)) } {
        let told = origin.intent == Intent::Proxy as u32 && origin.address.port != 0;
        return told.then_some(origin.address);
    }
    // The socket of an MPTCP connection has another cookie than the one that dialled for it.
    // SAFETY: see `maps`.
    let origin = unsafe { ORIGINS.get(ends.dialled(netns)) }?;
    (origin.intent == Intent::Captured as u32).then_some(origin.address)
}
