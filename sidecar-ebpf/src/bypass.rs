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

use crate::layout::Socket;
use crate::maps::{PEERS, SOCKETS, count, count_by};
use crate::sock::tcp;

/// One message. The verdict is always to pass: after a redirect that the kernel accepted it goes there, else by TCP.
#[inline(always)]
pub fn redirect(ctx: &SkMsgContext) {
    // SAFETY: a context field, which is never null; the verifier wants the check.
    let sk = unsafe { (*ctx.msg).__bindgen_anon_3.sk };
    if sk.is_null() {
        return;
    }
    // SAFETY: the helper takes any socket of a context.
    let own = unsafe { bpf_skc_to_tcp_sock(sk.cast()) };
    if own.is_null() {
        return;
    }
    let own = Socket(own as u64);
    let Some(cookie) = own.cookie() else { return };
    let Some(entry) = PEERS.get_ptr_mut(cookie) else { return };
    // SAFETY: see `maps`; this socket is locked, and alone writes to `sent`.
    let entry = unsafe { &mut *entry };
    let size = ctx.size();
    let fallback = match unfit(own, entry, size) {
        Some(fallback) => fallback,
        None if SOCKETS.redirect_msg(ctx, entry.cookie, u64::from(BPF_F_INGRESS))
            == sk_action::SK_PASS.into() =>
        {
            entry.sent.messages += 1;
            entry.sent.bytes += u64::from(size);
            count(Stat::RedirectedMessages);
            count_by(Stat::RedirectedBytes, u64::from(size));
            return;
        }
        None => Fallback::Gone,
    };
    if let Some(counter) = entry.sent.fallbacks.get_mut(fallback as usize) {
        *counter += 1;
    }
    count(stat(fallback));
}

/// Why this message may not be redirected.
#[inline(always)]
fn unfit(own: Socket, entry: &mut Peer, size: u32) -> Option<Fallback> {
    if entry.flags & end::REDIRECT == 0 {
        return Some(Fallback::Off);
    }
    let Some((acknowledged, next)) = own.all_acknowledged() else { return Some(Fallback::Gone) };
    if !acknowledged {
        return Some(Fallback::Unacknowledged);
    }
    let peer = Socket(entry.address);
    if peer.cookie() != Some(entry.cookie) || !takes_bytes(peer) {
        return Some(Fallback::Gone);
    }
    if entry.flags & end::PROXY != 0 && !may_be_read(peer, entry) {
        return Some(Fallback::Reader);
    }
    // kTLS would hand over plain text, or take it for such; and a writer without copies waits for its acknowledgement.
    if own.has_ulp() != Some(false) || peer.has_ulp() != Some(false) || own.is_zerocopy() != Some(false) {
        return Some(Fallback::Reader);
    }
    if peer.all_read_until(next) != Some(true) {
        return Some(Fallback::Unread);
    }
    (peer.has_room_for(size) != Some(true)).then_some(Fallback::Full)
}

/// Its program can still read: TCP would answer what comes after close() with a reset.
#[inline(always)]
fn takes_bytes(peer: Socket) -> bool {
    let state = peer.state().map_or(tcp::CLOSE, u32::from);
    matches!(state, tcp::ESTABLISHED | tcp::FIN_WAIT1 | tcp::FIN_WAIT2) && peer.file().is_some()
}

/// The program at the other end reads in a way that sees redirected bytes.
#[inline(always)]
fn may_be_read(peer: Socket, entry: &mut Peer) -> bool {
    let nonblocking = peer.file().is_some_and(|file| file.is_nonblocking());
    if !nonblocking {
        entry.blocking = 1;
    }
    // SAFETY: see `maps`.
    let spliced = matches!(unsafe { PEERS.get(entry.cookie) }, Some(other) if other.spliced != 0);
    nonblocking && !spliced && entry.blocking == 0 && peer.waits_for_more() == Some(false)
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

/// A socket closed: the other end keeps what this one sent, for the proxy, which asks as it lets go of its own end
/// (`Ask::Forget`) and until then has its entry.
#[inline(always)]
pub fn closed(cookie: u64) {
    // SAFETY: see `maps`.
    let Some(entry) = (unsafe { PEERS.get(cookie) }) else { return };
    if entry.flags & end::PROXY != 0 {
        return;
    }
    let (other, sent): (u64, Counts) = (entry.cookie, entry.sent);
    if let Some(other) = PEERS.get_ptr_mut(other) {
        // SAFETY: see `maps`; only this end writes to the other's `received`.
        unsafe { (*other).received = sent };
    }
    let _ = PEERS.remove(cookie);
}
