//! sk_lookup: which socket a new inbound connection goes to. Runs for every SYN in the network namespace.

use aya_ebpf::bindings::{bpf_sk_lookup, sk_action};
use aya_ebpf::programs::SkLookupContext;
use sidecar_common::address::{Endpoint, Ip};
use sidecar_common::flow::{FlowKey, Intent, ListenerKey, NetnsCookie, Role, ServiceKey};
use sidecar_common::settings::{Direction, Settings, Verdict, flag};
use sidecar_common::stats::Stat;

use crate::connect::{listed, port_rules};
use crate::decide::{self, Facts};
use crate::maps::{EXCLUDE, INCLUDE, ORIGINS, PROXY, PROXY_SOCKETS, SEEDED, SERVICES, count};
use crate::sock::{AF_INET, field, ip6};
use crate::{maps, record};

/// include/uapi/linux/in.h
const IPPROTO_TCP: u32 = 6;
/// `LOOPBACK_IFINDEX` (include/net/flow.h): lo has index 1 in every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

/// Steers to the proxy's inbound listener. Passing means that the kernel looks for a socket as without us;
/// dropping a SYN here makes it answer with a reset.
#[inline(always)]
pub fn steer(ctx: &SkLookupContext) -> u32 {
    let lookup: *const bpf_sk_lookup = ctx.lookup;
    if field!(lookup, protocol) != IPPROTO_TCP {
        return sk_action::SK_PASS;
    }
    let Some(settings) = maps::settings() else { return sk_action::SK_PASS };
    let netns = maps::lookup_netns();
    let (local, family) = local(lookup);
    if !served(netns, &local) {
        return sk_action::SK_PASS;
    }
    let remote = remote(lookup);
    let facts = Facts {
        loopback: local.ip.is_loopback() && came_through_lo(lookup),
        link_local: local.ip.is_v6_link_local() || remote.ip.is_v6_link_local(),
        port: port_rules(Direction::Inbound, local.port),
        included: listed(&INCLUDE, Direction::Inbound, &remote.ip),
        excluded: listed(&EXCLUDE, Direction::Inbound, &remote.ip),
    };
    let verdict = if from_the_proxy(&FlowKey { netns, local, remote }) {
        Verdict::Exempt
    } else {
        decide::inbound(settings, &facts).unwrap_or(Verdict::Captured)
    };
    let (verdict, action) = match verdict {
        Verdict::Captured => {
            hand_over(ctx, settings, &ListenerKey { netns, role: Role::Inbound as u32, family })
        }
        untouched => (untouched, sk_action::SK_PASS),
    };
    if settings.flags & flag::TRACE != 0 {
        record::decided(verdict, Direction::Inbound, local);
    }
    action
}

#[inline(always)]
fn hand_over(ctx: &SkLookupContext, settings: &Settings, key: &ListenerKey) -> (Verdict, u32) {
    // The plain map says whether the proxy takes connections; a retired listener is still in the socket map.
    if PROXY.get_ptr(key).is_some() && PROXY_SOCKETS.redirect_sk_lookup(ctx, key, 0).is_ok() {
        count(Stat::CapturedInbound);
        return (Verdict::Captured, sk_action::SK_PASS);
    }
    if settings.flags & flag::FAIL_CLOSED != 0 {
        count(Stat::RefusedProxyDown);
        return (Verdict::ProxyDown, sk_action::SK_DROP);
    }
    count(Stat::PassedProxyDown);
    (Verdict::ProxyDown, sk_action::SK_PASS)
}

/// True when an armed program listens there: on the address, or on all addresses. An IPv6 listener on all addresses
/// takes IPv4 connections as well (ipv6(7), `IPV6_V6ONLY`).
#[inline(always)]
pub fn served(netns: NetnsCookie, local: &Endpoint) -> bool {
    let listens = |ip: Ip| {
        let key = ServiceKey { netns, endpoint: Endpoint::new(ip, local.port) };
        // SAFETY: see `maps`.
        let learned = matches!(unsafe { SERVICES.get(key) }, Some(service) if service.listeners > 0);
        learned || SEEDED.get_ptr(key).is_some()
    };
    listens(local.ip) || local.ip.is_v4() && listens(Ip::v4(0)) || listens(Ip([0; 4]))
}

/// Where a program cannot see the interface (before 5.17), any packet to a loopback address counts: others than lo
/// bring one only where net.ipv4.conf.*.route_localnet lets them.
#[inline(always)]
fn came_through_lo(lookup: *const bpf_sk_lookup) -> bool {
    !maps::has_ingress_ifindex() || field!(lookup, ingress_ifindex) == LOOPBACK_IFINDEX
}

/// The proxy's own connection to the program it serves.
#[inline(always)]
fn from_the_proxy(flow: &FlowKey) -> bool {
    // SAFETY: see `maps`.
    matches!(unsafe { ORIGINS.get(flow) }, Some(origin) if origin.intent == Intent::Proxy as u32)
}

#[inline(always)]
fn local(lookup: *const bpf_sk_lookup) -> (Endpoint, u32) {
    let (v4, v6) = (Ip::v4(field!(lookup, local_ip4)), ip6!(lookup, local_ip6));
    let (ip, family) = if field!(lookup, family) == AF_INET { (v4, 4) } else { (v6, 6) };
    (Endpoint::new(ip, field!(lookup, local_port) as u16), family)
}

#[inline(always)]
fn remote(lookup: *const bpf_sk_lookup) -> Endpoint {
    let (v4, v6) = (Ip::v4(field!(lookup, remote_ip4)), ip6!(lookup, remote_ip6));
    let ip = if field!(lookup, family) == AF_INET { v4 } else { v6 };
    Endpoint::new(ip, u16::from_be(field!(lookup, remote_port)))
}
