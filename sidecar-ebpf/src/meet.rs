//! Two proxies of this machine that have one connection between them, in different network namespaces mostly. No program can
//! look a socket up in a namespace that is not its own. So each offers its own, finds the other's offer, and enrols its own:
//! until both have, what either sends goes by TCP.
//!
//! Addresses prove nothing, since namespaces may use the same ones. What proves it: each end's next sequence number is the one
//! that the other waits for, in both directions. The kernel draws them from a keyed hash and a clock of 64 ns (RFC 6528,
//! net/core/secure_seq.c). Where two sockets offer the same addresses at once, the later one is left to TCP.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST, bpf_sock};
use aya_ebpf::helpers::bpf_skc_to_tcp_sock;
use aya_ebpf::programs::TcContext;
use sidecar_common::bypass::{Offer, OfferKey, Question, end, seen};

use crate::enrol::{Seen, enlist, find, release};
use crate::layout::Socket;
use crate::maps::{self, NODE_OFFERS, NODE_PEERS, NODE_SOCKETS, is_shared, no_peer};
use crate::sock::{field, tcp};

/// Offers the asking proxy's socket, and enrols it if the other end has been offered and nothing is on its way.
#[inline(always)]
pub fn meet(ctx: &TcContext, question: &Question, seen: &mut Seen) {
    if !is_shared() {
        return seen.note(seen::ALONE, true);
    }
    let sk = find(ctx, &question.local, &question.remote);
    if sk.is_null() {
        return;
    }
    meet_by(question, sk, seen);
    release(sk);
}

#[inline(always)]
fn meet_by(question: &Question, sk: *mut bpf_sock, seen: &mut Seen) {
    // SAFETY: the helper takes any socket.
    let own = Socket(unsafe { bpf_skc_to_tcp_sock(sk.cast()) } as u64);
    let cookie = question.cookie;
    if own.0 == 0 || cookie == 0 || own.cookie() != Some(cookie) || field!(sk, state) != tcp::ESTABLISHED {
        return;
    }
    if !offer(question, own) {
        return seen.note(seen::AMBIGUOUS, true);
    }
    let theirs = OfferKey { local: question.remote, remote: question.local };
    // SAFETY: see `maps`; whatever is read of one that was used again is compared below.
    let Some(&Offer { cookie: other_cookie, address }) = (unsafe { NODE_OFFERS.get(theirs) }) else { return };
    let other = Socket(address);
    if other_cookie == cookie || other.cookie() != Some(other_cookie) {
        return;
    }
    let Some(to_own) = quiet_between(own, other) else { return seen.note(seen::BUSY, true) };
    seen.note(seen::PAIR, true);
    // SAFETY: see `maps`.
    let broken = unsafe { NODE_PEERS.get(other_cookie) }.is_some_and(|entry| entry.broken != 0);
    let _ = NODE_PEERS.insert(cookie, no_peer(), u64::from(BPF_NOEXIST));
    let Some(entry) = NODE_PEERS.get_ptr_mut(cookie) else { return seen.note(seen::NO_ROOM, true) };
    // SAFETY: see `maps`.
    let entry = unsafe { &mut *entry };
    (entry.own, entry.cookie, entry.address) = (cookie, other_cookie, other.0);
    (entry.arming, entry.gathered) = (maps::arming(), to_own);
    if broken {
        entry.broken = 1;
    }
    entry.flags = end::REDIRECT;
    if !enlist(&NODE_SOCKETS, cookie, sk) {
        let _ = NODE_PEERS.remove(cookie);
        return seen.note(seen::REFUSED, true);
    }
    seen.note(seen::ENROLLED, true);
}

/// False when another socket that is still there has offered the same.
#[inline(always)]
fn offer(question: &Question, own: Socket) -> bool {
    let key = OfferKey { local: question.local, remote: question.remote };
    // SAFETY: see `maps`; a cookie and an address that do not belong together are found out.
    if let Some(&Offer { cookie, address }) = unsafe { NODE_OFFERS.get(key) } {
        if cookie == question.cookie {
            return true;
        }
        let other = Socket(address);
        if other.cookie() == Some(cookie) && other.state() != Some(tcp::CLOSE as u8) {
            return false;
        }
    }
    NODE_OFFERS.insert(key, Offer { cookie: question.cookie, address: own.0 }, u64::from(BPF_ANY)).is_ok()
}

/// The two are each other's ends, and nothing is on its way between them, as far as can be seen: the sequence number that
/// comes next to the own one. The other proxy may write just now; what it writes then comes by TCP, after this number.
#[inline(always)]
fn quiet_between(own: Socket, other: Socket) -> Option<u32> {
    let (to_own, to_other) = (own.all_read()?, own.acknowledged_until()?);
    let state = other.state().map_or(tcp::CLOSE, u32::from);
    (state == tcp::ESTABLISHED
        && other.all_read_until(to_other) == Some(true)
        && other.written_until() == Some(to_own))
    .then_some(to_own)
}

/// The end is one that this arming has enrolled: others' are the machine's too, and not to be asked about.
#[inline(always)]
pub fn is_ours(cookie: u64) -> bool {
    // SAFETY: see `maps`.
    matches!(unsafe { NODE_PEERS.get(cookie) }, Some(entry) if entry.arming == maps::arming())
}

/// A proxy lets go of its end: the other keeps what it sent.
#[inline(always)]
pub fn left(cookie: u64) {
    // SAFETY: see `maps`.
    let Some(entry) = (unsafe { NODE_PEERS.get(cookie) }) else { return };
    if let Some(other) = NODE_PEERS.get_ptr_mut(entry.cookie)
        // SAFETY: see `maps`.
        && unsafe { (*other).cookie } == cookie
    {
        // SAFETY: see `maps`; only this end writes to the other's `received`.
        unsafe { (*other).received = entry.sent };
    }
    let _ = NODE_PEERS.remove(cookie);
}

/// A proxy lets go of its end, and takes back what it offered.
#[inline(always)]
pub fn withdraw(question: &Question) {
    if is_ours(question.cookie) {
        left(question.cookie);
    }
    let key = OfferKey { local: question.local, remote: question.remote };
    // SAFETY: see `maps`.
    if matches!(unsafe { NODE_OFFERS.get(key) }, Some(offer) if offer.cookie == question.cookie) {
        let _ = NODE_OFFERS.remove(key);
    }
}
