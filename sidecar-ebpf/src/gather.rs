//! sk_skb verdict: what TCP brings to an enrolled socket passes, to the queue that redirected bytes are in. In two queues, a
//! read would stop at the end of the first, and ioctl(FIONREAD) would count one of them alone: programs would take a
//! part for the whole, or wait for ever.
//!
//! The kernel moves whole buffers and looks at no sequence number (`tcp_read_skb`). But a buffer may begin with bytes that
//! came before: a retransmission reaches back over what was received, or the buffer was there before the socket was
//! enrolled and is read in part. `tcp_recvmsg` leaves such bytes out; here they are cut off. The socket is locked while
//! this runs.

use aya_ebpf::bindings::sk_action;
use aya_ebpf::helpers::bpf_skc_to_tcp_sock;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_adjust_room};
use aya_ebpf::programs::SkBuffContext;
use sidecar_common::bypass::Peer;
use sidecar_common::stats::Stat;

use crate::layout::Own;
use crate::maps::{Pairs, count, count_by};
use crate::sock::field;

/// What one call of `bpf_skb_adjust_room` cuts at most.
const CUT: u32 = 0xfff;
/// Cuts enough for the largest buffer that TCP makes (`GSO_MAX_SIZE`, include/linux/netdevice.h: 512 KiB).
const CUTS: u32 = 129;

/// One buffer.
#[inline(always)]
pub fn pass(ctx: &SkBuffContext, pairs: Pairs) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the helper takes the program's own context.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    // Both ends of an enrolled pair have an entry; the proxy's goes shortly before its socket, which nobody reads then.
    let Some(entry) = pairs.peers.get_ptr_mut(cookie) else { return sk_action::SK_PASS };
    // SAFETY: see `maps`; this socket is locked, and alone writes to `gathered`.
    let entry = unsafe { &mut *entry };
    if entry.broken != 0 {
        return sk_action::SK_DROP;
    }
    // The control block of the buffer (struct tcp_skb_cb) begins with the number of its first byte.
    let (first, length) = (field!(skb, cb[0]), field!(skb, len));
    let Some(copied) = copied_until(ctx) else { return broken(entry, cookie, pairs) };
    let expected = if is_after(copied, entry.gathered) { copied } else { entry.gathered };
    if is_after(first, expected) {
        return broken(entry, cookie, pairs);
    }
    let old = expected.wrapping_sub(first).min(length);
    if old > 0 {
        if !cut(ctx, old) {
            return broken(entry, cookie, pairs);
        }
        if pairs.are_own {
            count_by(Stat::RepeatedBytes, u64::from(old));
        }
    }
    // It may have become another's meanwhile, where nobody reads this end any more.
    // SAFETY: a field of a map value, aligned. Volatile: it is read again.
    if unsafe { core::ptr::read_volatile(&raw const entry.own) } == cookie {
        entry.gathered = first.wrapping_add(length);
    }
    sk_action::SK_PASS
}

/// Cuts bytes off the front.
#[inline(always)]
fn cut(ctx: &SkBuffContext, bytes: u32) -> bool {
    let mut left = bytes;
    for _ in 0..CUTS {
        let now = left.min(CUT);
        // SAFETY: the helper takes the program's own context.
        if unsafe { bpf_skb_adjust_room(ctx.skb.skb, -(now as i32), 0, 0) } != 0 {
            return false;
        }
        left -= now;
        if left == 0 {
            return true;
        }
    }
    false
}

/// What the program has read, as far as it read the TCP queue.
#[inline(always)]
fn copied_until(ctx: &SkBuffContext) -> Option<u32> {
    let sk = field!(ctx.skb.skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return None;
    }
    // SAFETY: the helper takes any socket of a context.
    let own = unsafe { bpf_skc_to_tcp_sock(sk.cast()) };
    (!own.is_null()).then(|| Own::new(own.cast()).copied_until())
}

/// The bytes of this buffer cannot be handed on as they should be: the kernel had no memory, or numbers them otherwise. The
/// connection must end rather than go on without them: nothing more comes, and who sends gets an error (EACCES).
#[inline(always)]
fn broken(entry: &mut Peer, cookie: u64, pairs: Pairs) -> u32 {
    // SAFETY: a field of a map value, aligned. Volatile: it is read again.
    if unsafe { core::ptr::read_volatile(&raw const entry.own) } != cookie {
        return sk_action::SK_DROP;
    }
    entry.broken = 1;
    if let Some(other) = pairs.peers.get_ptr_mut(entry.cookie)
        // SAFETY: see `maps`.
        && unsafe { (*other).cookie } == cookie
    {
        // SAFETY: as above.
        unsafe { (*other).broken = 1 };
    }
    if pairs.are_own {
        count(Stat::BrokenConnections);
    }
    sk_action::SK_DROP
}

/// True when a sequence number comes after another (RFC 9293 section 3.4).
#[inline(always)]
fn is_after(number: u32, other: u32) -> bool {
    (number.wrapping_sub(other) as i32) > 0
}
