//! connect(): remember where the program wants to go, and send it to the proxy instead.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_uid_gid};
use aya_ebpf::maps::lpm_trie::Key;
use sidecar_common::address::{CidrKey, Endpoint, Ip};
use sidecar_common::connection::Record;
use sidecar_common::flow::{Listener, ListenerKey, Role};
use sidecar_common::option::Forward;
use sidecar_common::settings::{Direction, NO_UID, PortKey, Settings, Verdict, flag};
use sidecar_common::stats::Stat;

use crate::decide::{self, Facts};
use crate::maps::{DIALS, EXCLUDE, INCLUDE, PORTS, PROXY, RECORDS, count};
use crate::sock::{cookie, field, ip6, learn_home, netns_of_addr, set_field};
use crate::{maps, record};

/// include/linux/net.h
const SOCK_STREAM: u32 = 1;
/// include/uapi/linux/in.h
const IPPROTO_TCP: u32 = 6;
/// The bits of [`CidrKey`] before the address, and those of an IPv4-mapped prefix.
const DIRECTION_BITS: u32 = 32;
const MAPPED_BITS: u32 = 96;

/// Where a connection goes instead of where it was meant to.
enum Detour {
    /// To the proxy's listener.
    Proxy(Listener),
    /// Nowhere: refused. Port 0 has never a listener, so the kernel answers with a reset and connect() fails with
    /// ECONNREFUSED, also a non-blocking one. Returning an error from the hook would give EPERM before 5.18.
    Nowhere,
}

/// IPv4 sockets.
#[inline(always)]
pub fn v4(ctx: *mut bpf_sock_addr) {
    let destination = Endpoint::new(Ip::v4(field!(ctx, user_ip4)), port(ctx));
    if let Some(detour) = detour(ctx, destination) {
        set_field!(ctx, u32::to_be(0x7f00_0001), user_ip4);
        set_port(ctx, &detour);
    }
}

/// IPv6 sockets, also those that talk to an IPv4-mapped address.
#[inline(always)]
pub fn v6(ctx: *mut bpf_sock_addr) {
    let ip = ip6!(ctx, user_ip6);
    let destination = Endpoint::new(ip, port(ctx));
    if let Some(detour) = detour(ctx, destination) {
        let loopback =
            if ip.is_v4() { Ip::v4(u32::to_be(0x7f00_0001)) } else { Ip([0, 0, 0, u32::to_be(1)]) };
        set_field!(ctx, loopback.0[0], user_ip6[0]);
        set_field!(ctx, loopback.0[1], user_ip6[1]);
        set_field!(ctx, loopback.0[2], user_ip6[2]);
        set_field!(ctx, loopback.0[3], user_ip6[3]);
        set_port(ctx, &detour);
    }
}

/// Decides, and notes what the later hooks need. `None`: leave the call alone.
#[inline(always)]
fn detour(ctx: *mut bpf_sock_addr, destination: Endpoint) -> Option<Detour> {
    if field!(ctx, type_) != SOCK_STREAM || field!(ctx, protocol) != IPPROTO_TCP {
        return None;
    }
    let settings = maps::settings()?;
    if exempt(ctx, settings) {
        learn_home(ctx);
        mark_as_proxys(ctx);
        return None;
    }
    let facts = Facts {
        loopback: destination.ip.is_loopback(),
        link_local: destination.ip.is_v6_link_local(),
        port: port_rules(Direction::Outbound, destination.port),
        included: listed(&INCLUDE, Direction::Outbound, &destination.ip),
        excluded: listed(&EXCLUDE, Direction::Outbound, &destination.ip),
    };
    let verdict = decide::outbound(settings, &facts).unwrap_or(Verdict::Captured);
    let (verdict, detour) = match verdict {
        Verdict::Captured => capture(ctx, settings, destination),
        untouched => {
            // What an earlier connect() on this socket noted, if that failed before its SYN.
            let _ = RECORDS.remove(cookie(ctx));
            (untouched, None)
        }
    };
    if settings.flags & flag::TRACE != 0 {
        record::decided(verdict, Direction::Outbound, destination);
    }
    detour
}

/// Makes the record, whose room in its map is the room for the connection, and finds the proxy.
#[inline(always)]
fn capture(ctx: *mut bpf_sock_addr, settings: &Settings, destination: Endpoint) -> (Verdict, Option<Detour>) {
    let closed = settings.flags & flag::FAIL_CLOSED != 0;
    // SAFETY: `sk` is a context field; a null one is handled.
    let sk = unsafe { (*ctx).__bindgen_anon_1.sk };
    if !sk.is_null() && field!(sk, bound_dev_if) != 0 {
        count(Stat::PassedDeviceBound);
        return (Verdict::DeviceBound, None);
    }
    let netns = netns_of_addr(ctx);
    let family = if destination.ip.is_v4() { 4 } else { 6 };
    let key = ListenerKey { netns, role: Role::Outbound as u32, family };
    // SAFETY: see `maps`.
    let Some(listener) = (unsafe { PROXY.get(key) }) else {
        count(if closed { Stat::RefusedProxyDown } else { Stat::PassedProxyDown });
        return (Verdict::ProxyDown, closed.then_some(Detour::Nowhere));
    };
    let id = cookie(ctx);
    let record = Record {
        id,
        netns,
        opened_ns: record::now(),
        original_destination: destination,
        program: record::program_of_caller(),
        direction: Direction::Outbound as u32,
        ..Record::default()
    };
    if RECORDS.insert(id, record, 0).is_err() {
        count(Stat::RecordsFull);
        return (Verdict::MapFull, closed.then_some(Detour::Nowhere));
    }
    count(Stat::CapturedOutbound);
    (Verdict::Captured, Some(Detour::Proxy(*listener)))
}

/// True for the proxy itself, by whichever way it can be told in this way of running.
#[inline(always)]
fn exempt(ctx: *mut bpf_sock_addr, settings: &Settings) -> bool {
    // SAFETY: helpers without arguments.
    let (cgroup, uid) = unsafe { (bpf_get_current_cgroup_id(), bpf_get_current_uid_gid() as u32) };
    if settings.exempt_cgroup != 0 && settings.exempt_cgroup == cgroup {
        return true;
    }
    if settings.exempt_uid != NO_UID && settings.exempt_uid == uid {
        return true;
    }
    // SAFETY: `sk` is a context field; a null one is handled.
    let sk = unsafe { (*ctx).__bindgen_anon_1.sk };
    settings.exempt_mark != 0 && !sk.is_null() && field!(sk, mark) == settings.exempt_mark
}

/// The proxy's own connection: unless it told more, note that it is the proxy's.
#[inline(always)]
fn mark_as_proxys(ctx: *mut bpf_sock_addr) {
    let cookie = cookie(ctx);
    if DIALS.get_ptr(cookie).is_none() {
        let forward = Forward { cookie, id: 0, client: Endpoint::default() };
        if DIALS.insert(cookie, forward, 0).is_err() {
            count(Stat::DialsFull);
        }
    }
}

/// The bits of [`sidecar_common::settings::port_rule`] for a port.
#[inline(always)]
pub fn port_rules(direction: Direction, port: u16) -> u32 {
    // SAFETY: see `maps`.
    unsafe { PORTS.get(PortKey { direction: direction as u16, port }) }.copied().unwrap_or(0)
}

/// True when a network of the trie holds the address. `::/0` does not hold IPv4-mapped addresses.
#[inline(always)]
pub fn listed(trie: &aya_ebpf::maps::LpmTrie<CidrKey, u32>, direction: Direction, ip: &Ip) -> bool {
    let key = Key::new(DIRECTION_BITS + 128, CidrKey { direction: direction as u32, ip: *ip });
    let least = if ip.is_v4() { DIRECTION_BITS + MAPPED_BITS } else { DIRECTION_BITS };
    matches!(trie.get(key), Some(matched) if *matched >= least)
}

#[inline(always)]
fn port(ctx: *mut bpf_sock_addr) -> u16 {
    u16::from_be(field!(ctx, user_port) as u16)
}

#[inline(always)]
fn set_port(ctx: *mut bpf_sock_addr, detour: &Detour) {
    let port = match detour {
        Detour::Proxy(listener) => listener.port,
        Detour::Nowhere => 0,
    };
    set_field!(ctx, u32::from(port.to_be()), user_port);
}
