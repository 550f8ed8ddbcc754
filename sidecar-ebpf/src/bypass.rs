//! sk_msg: hands what one end of an enrolled pair writes straight to the other, when that provably keeps the order and
//! the receiver has room; otherwise it goes by TCP, as without us.
//!
//! A reader empties its queue of redirected bytes before its TCP queue. So a message may only be redirected while TCP
//! holds no earlier byte of this direction anywhere: all that was written is acknowledged, and all that was received is
//! read. TCP after a redirected message keeps the order by itself. The writer is locked while this runs.

use aya_ebpf::bindings::{BPF_F_INGRESS, sk_action};
use aya_ebpf::helpers::bpf_skc_to_tcp_sock;
use aya_ebpf::programs::SkMsgContext;
use sidecar_common::bypass::{Counts, Fallback, Peer, end};
use sidecar_common::stats::Stat;

use crate::layout::{File, Own, Socket};
use crate::maps::{PEERS, Pairs, count, count_by};
use crate::sock::tcp;

/// One message. The verdict is to pass: after a redirect that the kernel accepted it goes there, else by TCP. Only a
/// broken connection takes no more ([`crate::gather`]).
#[inline(always)]
pub fn redirect(ctx: &SkMsgContext, pairs: Pairs) -> u32 {
    // SAFETY: a context field, which is never null; the verifier wants the check.
    let sk = unsafe { (*ctx.msg).__bindgen_anon_3.sk };
    if sk.is_null() {
        return sk_action::SK_PASS;
    }
    // SAFETY: the helper takes any socket of a context.
    let own = unsafe { bpf_skc_to_tcp_sock(sk.cast()) };
    if own.is_null() {
        return sk_action::SK_PASS;
    }
    let own = Own::new(own.cast());
    let Some(entry) = pairs.peers.get_ptr_mut(own.cookie()) else { return sk_action::SK_PASS };
    // SAFETY: see `maps`; this socket is locked, and alone writes to `sent`.
    let entry = unsafe { &mut *entry };
    if entry.broken != 0 {
        return sk_action::SK_DROP;
    }
    let size = ctx.size();
    // Read once: what is looked at is what is redirected to.
    // SAFETY: fields of a map value, aligned.
    let (cookie, peer) = unsafe {
        (
            core::ptr::read_volatile(&raw const entry.cookie),
            core::ptr::read_volatile(&raw const entry.address),
        )
    };
    let fallback = match unfit(own, entry, cookie, Socket(peer), size) {
        Some(fallback) => fallback,
        None if pairs.sockets.redirect_msg(ctx, cookie, u64::from(BPF_F_INGRESS))
            == sk_action::SK_PASS.into() =>
        {
            entry.sent.messages += 1;
            entry.sent.bytes += u64::from(size);
            if pairs.are_own {
                count(Stat::RedirectedMessages);
                count_by(Stat::RedirectedBytes, u64::from(size));
            }
            return sk_action::SK_PASS;
        }
        None => Fallback::Gone,
    };
    if let Some(counter) = entry.sent.fallbacks.get_mut(fallback as usize) {
        *counter += 1;
    }
    if pairs.are_own {
        count(stat(fallback));
    }
    sk_action::SK_PASS
}

/// Why this message may not be redirected.
#[inline(always)]
fn unfit(own: Own, entry: &mut Peer, cookie: u64, peer: Socket, size: u32) -> Option<Fallback> {
    if entry.flags & end::REDIRECT == 0 {
        return Some(Fallback::Off);
    }
    let Some(next) = own.acknowledged_until() else { return Some(Fallback::Unacknowledged) };
    if peer.cookie() != Some(cookie) || !is_open(peer) {
        return Some(Fallback::Gone);
    }
    // TCP would answer what comes after close() with a reset.
    let Some(file) = peer.file() else { return Some(Fallback::Gone) };
    let served = if entry.flags & end::PROXY != 0 {
        to_program(peer, file, entry)
    } else {
        // A writer without copies waits for the acknowledgement.
        !own.has_ulp() && !own.is_zerocopy()
    };
    if !served {
        return Some(Fallback::Reader);
    }
    if peer.all_read_until(next) != Some(true) {
        return Some(Fallback::Unread);
    }
    (peer.has_room_for(size, next) != Some(true)).then_some(Fallback::Full)
}

#[inline(always)]
fn is_open(peer: Socket) -> bool {
    let state = peer.state().map_or(tcp::CLOSE, u32::from);
    matches!(state, tcp::ESTABLISHED | tcp::FIN_WAIT1 | tcp::FIN_WAIT2)
}

/// The program at the other end reads in a way that sees redirected bytes. kTLS would take them for plain text.
#[inline(always)]
fn to_program(peer: Socket, file: File, entry: &mut Peer) -> bool {
    if !file.is_nonblocking() {
        entry.blocking = 1;
    }
    entry.blocking == 0
        && entry.spliced == 0
        && peer.waits_for_more() == Some(false)
        && peer.has_ulp() == Some(false)
}

#[inline(always)]
fn stat(fallback: Fallback) -> Stat {
    match fallback {
        Fallback::Off => Stat::FallbackOff,
        Fallback::Unacknowledged => Stat::FallbackUnacknowledged,
        Fallback::Unread => Stat::FallbackUnread,
        Fallback::Full => Stat::FallbackFull,
        Fallback::Gone => Stat::FallbackGone,
        Fallback::Reader => Stat::FallbackReader,
    }
}

/// TCP is done with a socket: the other end keeps what this one sent, for the proxy, which asks as it lets go of its own
/// end (`Ask::Forget`) and until then has its entry. The program may still read what came last, which is gathered after
/// this.
#[inline(always)]
pub fn closed(cookie: u64) {
    // SAFETY: see `maps`.
    let Some(entry) = (unsafe { PEERS.get(cookie) }) else { return };
    if entry.flags & end::PROXY != 0 {
        return;
    }
    let (other, sent, released): (u64, Counts, bool) = (entry.cookie, entry.sent, entry.released != 0);
    if let Some(other) = PEERS.get_ptr_mut(other) {
        // SAFETY: see `maps`; only this end writes to the other's `received`.
        unsafe { (*other).received = sent };
    }
    if released {
        let _ = PEERS.remove(cookie);
    }
}

/// A program lets go of a socket, with which TCP may be done already.
#[inline(always)]
pub fn released(cookie: u64, state: u32) {
    let Some(entry) = PEERS.get_ptr_mut(cookie) else { return };
    // SAFETY: see `maps`.
    let entry = unsafe { &mut *entry };
    if entry.flags & end::PROXY != 0 {
        return;
    }
    entry.released = 1;
    if state == tcp::CLOSE {
        let _ = PEERS.remove(cookie);
    }
}
