//! getsockopt(): the original destination, as netfilter would answer it, and our own [`option::RECORD`], [`option::ANSWER`]
//! and [`option::COUNTERS`].

use aya_ebpf::bindings::bpf_sockopt;
use sidecar_common::address::Endpoint;
use sidecar_common::bypass::Answer;
use sidecar_common::connection::Record;
use sidecar_common::flow::Intent;
use sidecar_common::option;
use sidecar_common::stats::Counters;

use crate::lookup::served;
use crate::maps::{ANSWERS, ORIGINS, RECORDS, STATS};
use crate::sock::{AF_INET, AF_INET6, Ends, field, netns_of_sockopt, set_field};
use crate::tell::from_the_proxy;

/// include/uapi/linux/in.h and in6.h
const SOL_IP: i32 = 0;
const SOL_IPV6: i32 = 41;
/// include/uapi/linux/netfilter_ipv4.h; `IP6T_SO_ORIGINAL_DST` is the same number.
const SO_ORIGINAL_DST: i32 = 80;
/// What the hook sees of a buffer at most (Documentation/bpf/prog_cgroup_sockopt.rst).
pub const PAGE_SIZE: i32 = 4096;

/// struct sockaddr_in (ip(7)), as words in network order.
type SockaddrIn = [u32; 4];
/// struct sockaddr_in6 (ipv6(7)), as words in network order.
type SockaddrIn6 = [u32; 7];

/// Answers what is ours to answer.
#[inline(always)]
pub fn answer(ctx: *mut bpf_sockopt) {
    let (level, name) = (field!(ctx, level), field!(ctx, optname));
    match (level, name) {
        (SOL_IP, SO_ORIGINAL_DST) => {
            if let Some(d) = original_destination(ctx).filter(|d| d.ip.is_v4()) {
                reply::<SockaddrIn>(ctx, [head(AF_INET, d.port), d.ip.0[3], 0, 0]);
            }
        }
        (SOL_IPV6, SO_ORIGINAL_DST) => {
            if let Some(d) = original_destination(ctx).filter(|d| !d.ip.is_v4()) {
                let ip = d.ip.0;
                reply::<SockaddrIn6>(ctx, [head(AF_INET6, d.port), 0, ip[0], ip[1], ip[2], ip[3], 0]);
            }
        }
        (option::LEVEL, option::RECORD) => {
            if let Some(record) = record(ctx) {
                reply::<Record>(ctx, record);
            }
        }
        (option::LEVEL, option::ANSWER) if from_the_proxy(ctx) => {
            let port = own_port(ctx);
            // SAFETY: see `maps`.
            if let Some(answer) = unsafe { ANSWERS.get(port) } {
                reply::<Answer>(ctx, *answer);
                let _ = ANSWERS.remove(port);
            }
        }
        (option::LEVEL, option::COUNTERS..) if from_the_proxy(ctx) => {
            if let Some(counters) = STATS.get((name - option::COUNTERS) as u32) {
                reply_with_counters(ctx, counters);
            }
        }
        _ => leave_large_buffers(ctx),
    }
}

/// A buffer over a page reaches the hook cut off; with `optlen` 0 the kernel takes its own answer instead.
#[inline(always)]
pub fn leave_large_buffers(ctx: *mut bpf_sockopt) {
    if field!(ctx, optlen) > PAGE_SIZE {
        set_field!(ctx, 0, optlen);
    }
}

/// Outbound: what the program dialled. Inbound, asked by the proxy: the socket's own local address, which nothing has
/// rewritten; a proxy made for REDIRECT asks all the same.
#[inline(always)]
fn original_destination(ctx: *mut bpf_sockopt) -> Option<Endpoint> {
    // SAFETY: `sk` is a context field; `of_sock` handles a null one.
    let ends = Ends::of_sock(unsafe { (*ctx).__bindgen_anon_1.sk })?;
    let netns = netns_of_sockopt(ctx);
    // SAFETY: see `maps`.
    if let Some(origin) = unsafe { ORIGINS.get(ends.accepted(netns)) } {
        return (origin.intent == Intent::Captured as u32).then_some(origin.address);
    }
    (from_the_proxy(ctx) && served(netns, &ends.local)).then_some(ends.local)
}

/// Asked of a socket that the proxy accepted: the record of the program that dialled. Asked of one that it
/// connected: that of the program that accepted.
#[inline(always)]
fn record(ctx: *mut bpf_sockopt) -> Option<Record> {
    // SAFETY: see `maps`.
    let ends = Ends::of_sock(unsafe { (*ctx).__bindgen_anon_1.sk })?;
    let netns = netns_of_sockopt(ctx);
    // SAFETY: see `maps`.
    match unsafe { ORIGINS.get(ends.accepted(netns)) } {
        Some(origin) if origin.intent == Intent::Captured as u32 => {
            // SAFETY: see `maps`.
            let record = unsafe { RECORDS.get(origin.id) }?;
            // The program may have connected again on its socket; this connection's destination stays.
            Some(Record { original_destination: origin.address, ..*record })
        }
        _ => {
            // SAFETY: see `maps`.
            let origin = unsafe { ORIGINS.get(ends.dialled(netns)) }?;
            // SAFETY: see `maps`.
            unsafe { RECORDS.get(origin.accepted) }.copied()
        }
    }
}

/// Names the UDP socket that is asked; 0: it has none.
#[inline(always)]
fn own_port(ctx: *mut bpf_sockopt) -> u32 {
    // SAFETY: `sk` is a context field; `of_sock` handles a null one.
    Ends::of_sock(unsafe { (*ctx).__bindgen_anon_1.sk }).map_or(0, |ends| u32::from(ends.local.port))
}

/// The first word of a socket address: the family in host order, the port in network order.
#[inline(always)]
fn head(family: u32, port: u16) -> u32 {
    let [f0, f1] = (family as u16).to_ne_bytes();
    let [p0, p1] = port.to_be_bytes();
    u32::from_ne_bytes([f0, f1, p0, p1])
}

/// Word by word, since other CPUs count meanwhile: a word is whole, whatever the others are.
#[inline(always)]
fn reply_with_counters(ctx: *mut bpf_sockopt, counters: &Counters) {
    let mut copy = Counters::default();
    for (to, from) in copy.0.iter_mut().zip(&counters.0) {
        // SAFETY: a reference to a word of a map's value, which stays.
        *to = unsafe { core::ptr::read_volatile(from) };
    }
    reply::<Counters>(ctx, copy);
}

/// Writes the answer if the caller's buffer holds it, and turns the kernel's refusal into success.
#[inline(always)]
fn reply<T: Copy>(ctx: *mut bpf_sockopt, value: T) {
    // SAFETY: these are context fields.
    let (start, end) = unsafe { ((*ctx).__bindgen_anon_2.optval, (*ctx).__bindgen_anon_3.optval_end) };
    let size = core::mem::size_of::<T>();
    if start as usize + size > end as usize {
        return;
    }
    // SAFETY: the buffer holds `size` bytes, which the verifier has seen checked.
    unsafe { core::ptr::write_unaligned(start.cast::<T>(), value) };
    set_field!(ctx, size as i32, optlen);
    set_field!(ctx, 0, retval);
}
