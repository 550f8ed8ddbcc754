//! A question by a packet: the proxy in a container whose seccomp profile refuses bpf(2) sends it to itself, by UDP over the
//! loopback interface, where this program sees it while sendto() is under way. The packet goes no further; the answer
//! waits for getsockopt() on the same socket. So nothing can be lost on the way or come late.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_socket_uid;
use aya_ebpf::programs::TcContext;
use sidecar_common::bypass::{ETHERNET, Question};
use sidecar_common::settings::NO_UID;

use crate::enrol;
use crate::maps::{self, ANSWERS};

/// `TCX_NEXT` and `TCX_DROP` (include/uapi/linux/bpf.h).
const GO_ON: i32 = -1;
const TAKEN: i32 = 2;

/// IPv4 without options, and UDP (RFC 791 section 3.1, RFC 768).
const IP: usize = 20;
const PROTOCOL_AT: usize = ETHERNET + 9;
const ADDRESSES_AT: usize = ETHERNET + 12;
const PORTS_AT: usize = ETHERNET + IP;
const QUESTION_AT: usize = PORTS_AT + 8;
const PROTOCOL_UDP: u8 = 17;

/// Takes a question of the proxy, and lets all else go on.
#[inline(always)]
pub fn passes(ctx: &TcContext) -> i32 {
    // Most packets end here.
    if ctx.len() as usize != QUESTION_AT + size_of::<Question>() || !is_to_itself(ctx) || !is_of_proxy(ctx) {
        return GO_ON;
    }
    let (Ok(question), Some(port)) = (ctx.load::<Question>(QUESTION_AT), port(ctx)) else { return GO_ON };
    // First the room for it: nothing is done that cannot be told.
    if ANSWERS.insert(port, maps::no_answer(), u64::from(BPF_ANY)).is_ok()
        && let Some(answer) = ANSWERS.get_ptr_mut(port)
    {
        // SAFETY: see `maps`: the asking socket is in sendto(), and asks one question at a time.
        enrol::answer_to(ctx, &question, unsafe { &mut *answer });
    }
    TAKEN
}

#[inline(always)]
fn is_to_itself(ctx: &TcContext) -> bool {
    let ends = (ctx.load::<[u32; 2]>(ADDRESSES_AT), ctx.load::<[u16; 2]>(PORTS_AT));
    let (Ok([from, to]), Ok([from_port, to_port])) = ends else { return false };
    ctx.load::<u8>(ETHERNET) == Ok(0x45)
        && ctx.load::<u8>(PROTOCOL_AT) == Ok(PROTOCOL_UDP)
        && (from, from_port) == (to, to_port)
}

#[inline(always)]
fn is_of_proxy(ctx: &TcContext) -> bool {
    // SAFETY: the helper takes the program's own context.
    let user = unsafe { bpf_get_socket_uid(ctx.skb.skb) };
    matches!(maps::settings(), Some(settings) if settings.exempt_uid != NO_UID && settings.exempt_uid == user)
}

/// The sender's port.
#[inline(always)]
fn port(ctx: &TcContext) -> Option<u32> {
    ctx.load::<u16>(PORTS_AT).ok().map(|port| u32::from(u16::from_be(port)))
}
