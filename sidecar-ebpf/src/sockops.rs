//! sock_ops: what happens to sockets, from TCP's own callbacks.

use aya_ebpf::bindings::{
    BPF_NOEXIST, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_RETRANS_CB, BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
    BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_TCP_LISTEN_CB,
};
use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::programs::SockOpsContext;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use sidecar_common::address::{Endpoint, Ip};
use sidecar_common::connection::{EventKind, Record, phantom};
use sidecar_common::flow::{
    FlowKey, Intent, Listener, ListenerKey, NetnsCookie, Origin, Program, Role, Service, ServiceKey,
};
use sidecar_common::settings::Direction;
use sidecar_common::stats::Stat;

use crate::maps::{self, DIALS, ORIGINS, PROXY, PROXY_SOCKETS, RECORDS, ROLES, SEEDED, SERVICES, count};
use crate::sock::{AF_INET, Ends, cookie, field, ip6, netns_of_sock_ops, tcp};
use crate::tell::retire;
use crate::{bypass, record};

/// One callback.
#[inline(always)]
pub fn called(ctx: &SockOpsContext) {
    match field!(ctx.ops, op) {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(ctx),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => dialled(ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(ctx),
        BPF_SOCK_OPS_TCP_LISTEN_CB => listening(ctx),
        BPF_SOCK_OPS_STATE_CB => changed(ctx),
        BPF_SOCK_OPS_RETRANS_CB => measured(ctx),
        _ => {}
    }
}

/// The ports are known and the SYN has not left: publish whose connection this is, so that whoever accepts it can
/// ask at once.
#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let cookie = cookie(ctx.ops);
    let netns = netns_of_sock_ops(ctx);
    let ends = Ends::of_sock_ops(ctx);
    if let Some(record) = RECORDS.get_ptr_mut(cookie) {
        // SAFETY: see `maps`.
        let record = unsafe { &mut *record };
        record.source = ends.local;
        record.state = field!(ctx.ops, state);
        let origin = Origin {
            address: record.original_destination,
            id: record.id,
            accepted: 0,
            intent: Intent::Captured as u32,
            reserved: 0,
        };
        publish(&ends.dialled(netns), &origin);
        watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG);
        return;
    }
    // SAFETY: see `maps`.
    if let Some(forward) = unsafe { DIALS.get(cookie) } {
        let origin = Origin {
            address: forward.client,
            id: forward.id,
            accepted: 0,
            intent: Intent::Proxy as u32,
            reserved: 0,
        };
        publish(&ends.dialled(netns), &origin);
        let _ = DIALS.remove(cookie);
        watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
    }
}

/// A captured connection reached the proxy.
#[inline(always)]
fn dialled(ctx: &SockOpsContext) {
    if let Some(record) = record_of(ctx) {
        record.state = tcp::ESTABLISHED;
        record.phantoms = phantom::SYN_SENT;
        record::emit(EventKind::Open, tcp::ESTABLISHED, record);
    }
}

/// Somebody accepted a connection. If it is one that we know, its entry now lives as long as this socket; if it
/// came from the proxy, this is a program's inbound connection.
#[inline(always)]
fn accepted(ctx: &SockOpsContext) {
    let netns = netns_of_sock_ops(ctx);
    let ends = Ends::of_sock_ops(ctx);
    let Some(origin) = ORIGINS.get_ptr_mut(ends.accepted(netns)) else { return };
    // SAFETY: see `maps`.
    let origin = unsafe { &mut *origin };
    let cookie = cookie(ctx.ops);
    origin.accepted = cookie;
    if origin.intent == Intent::Captured as u32 || origin.id == 0 || origin.address.port == 0 {
        watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
        return;
    }
    let record = Record {
        id: origin.id,
        netns,
        opened_ns: record::now(),
        source: origin.address,
        original_destination: ends.local,
        program: program_behind(netns, &ends.local),
        direction: Direction::Inbound as u32,
        state: tcp::ESTABLISHED,
        ..Record::default()
    };
    if RECORDS.insert(cookie, record, 0).is_err() {
        count(Stat::RecordsFull);
        watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
        return;
    }
    watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG);
    record::emit(EventKind::Open, tcp::ESTABLISHED, &record);
}

/// The proxy's listener registers itself; a program's port becomes one that is steered.
#[inline(always)]
fn listening(ctx: &SockOpsContext) {
    let cookie = cookie(ctx.ops);
    let netns = netns_of_sock_ops(ctx);
    let local = listener_end(ctx);
    if let Some(role) = role_of(cookie, local.port) {
        // Kept for its close, which may run in another process.
        let _ = ROLES.insert(cookie, role, 0);
        if role != Role::Own as u32 {
            let family = if field!(ctx.ops, family) == AF_INET { 4 } else { 6 };
            register(
                ctx,
                ListenerKey { netns, role, family },
                Listener { cookie, port: local.port, reserved: [0; 6] },
            );
        }
        watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
        return;
    }
    let key = ServiceKey { netns, endpoint: local };
    let program = if maps::has_task_in_sockops() { record::program_of_caller() } else { Program::default() };
    // Fails when it is there already, which two listeners at once may both find: the counter alone counts.
    let _ = SERVICES.insert(key, Service { listeners: 0, program }, u64::from(BPF_NOEXIST));
    let Some(service) = SERVICES.get_ptr_mut(key) else {
        count(Stat::ServicesFull);
        return;
    };
    // SAFETY: an entry of this map is never removed; listeners on other CPUs may share the counter.
    unsafe {
        (*service).program = program;
        add(&raw mut (*service).listeners, 1);
    }
    watch(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/// A socket changed its state.
#[inline(always)]
fn changed(ctx: &SockOpsContext) {
    let (old, new) = (field!(ctx.ops, __bindgen_anon_1.args[0]), field!(ctx.ops, __bindgen_anon_1.args[1]));
    if old == tcp::LISTEN {
        return unlistened(ctx);
    }
    let cookie = cookie(ctx.ops);
    if let Some(record) = RECORDS.get_ptr_mut(cookie) {
        // SAFETY: see `maps`.
        let record = unsafe { &mut *record };
        if matches!(new, tcp::CLOSE_WAIT | tcp::CLOSING | tcp::TIME_WAIT) || old == tcp::FIN_WAIT2 {
            record.phantoms |= phantom::FIN_RECEIVED;
        }
        if old == tcp::FIN_WAIT1 && new == tcp::FIN_WAIT2 || old == tcp::LAST_ACK || old == tcp::CLOSING {
            record.phantoms |= phantom::FIN_SENT;
        }
        measure(ctx, record);
        if new == tcp::CLOSE {
            record::emit(EventKind::Close, new, record);
        }
        // Last: with it, whoever closes the other end may remove the record.
        record.state = new;
    }
    if new == tcp::CLOSE {
        closed(ctx, cookie);
    }
}

/// Removes what was kept for a socket that closed. Both ends of a connection to the proxy may still be asked about
/// the other: the last one takes the entries along.
#[inline(always)]
fn closed(ctx: &SockOpsContext, cookie: u64) {
    bypass::closed(cookie);
    let netns = netns_of_sock_ops(ctx);
    let ends = Ends::of_sock_ops(ctx);
    let accepted = ends.accepted(netns);
    // SAFETY: see `maps`.
    if let Some(origin) = unsafe { ORIGINS.get(accepted) }
        && origin.accepted == cookie
    {
        let dialler = origin.id;
        let captured = origin.intent == Intent::Captured as u32;
        let _ = ORIGINS.remove(accepted);
        let _ = RECORDS.remove(cookie);
        if captured
            && let Some(record) = RECORDS.get_ptr(dialler)
            // SAFETY: see `maps`.
            && unsafe { (*record).state } == tcp::CLOSE
        {
            let _ = RECORDS.remove(dialler);
        }
        return;
    }
    let dialled = ends.dialled(netns);
    // SAFETY: see `maps`.
    match unsafe { ORIGINS.get(dialled) } {
        Some(origin) if origin.accepted != 0 => {}
        Some(_) => {
            let _ = ORIGINS.remove(dialled);
            let _ = RECORDS.remove(cookie);
        }
        None => {
            let _ = RECORDS.remove(cookie);
        }
    }
}

/// A listener closed.
#[inline(always)]
fn unlistened(ctx: &SockOpsContext) {
    let cookie = cookie(ctx.ops);
    let netns = netns_of_sock_ops(ctx);
    let local = listener_end(ctx);
    // SAFETY: see `maps`.
    if let Some(role) = unsafe { ROLES.get(cookie) } {
        retire(netns, *role, cookie);
        let _ = ROLES.remove(cookie);
        return;
    }
    if let Some(service) = SERVICES.get_ptr_mut(ServiceKey { netns, endpoint: local }) {
        // SAFETY: as in `listening`.
        unsafe { add(&raw mut (*service).listeners, u64::MAX) };
    }
}

/// A segment was sent again. (Round trips would call for each acknowledgement: what they would tell is read at the next
/// change of state, and the proxy asks TCP itself.)
#[inline(always)]
fn measured(ctx: &SockOpsContext) {
    if let Some(record) = record_of(ctx) {
        measure(ctx, record);
    }
}

#[inline(always)]
fn measure(ctx: &SockOpsContext, record: &mut Record) {
    let octets = |bits: u32| u64::from((record.phantoms & bits).count_ones());
    let phantoms_sent = octets(phantom::SYN_SENT) + octets(phantom::FIN_SENT);
    record.bytes_sent = field!(ctx.ops, bytes_acked).saturating_sub(phantoms_sent);
    record.bytes_received = field!(ctx.ops, bytes_received).saturating_sub(octets(phantom::FIN_RECEIVED));
    // The kernel keeps eight times the value (include/linux/tcp.h, srtt_us).
    record.rtt_us = field!(ctx.ops, srtt_us) >> 3;
    record.retransmits = field!(ctx.ops, total_retrans);
}

/// What a listener is, if it is the proxy's: as it said itself, or, for an unmodified proxy, by its port and user.
/// Called at listen(), which runs in the process that owns it.
#[inline(always)]
fn role_of(cookie: u64, port: u16) -> Option<u32> {
    // SAFETY: see `maps`.
    if let Some(role) = unsafe { ROLES.get(cookie) } {
        return Some(*role);
    }
    let settings = maps::settings()?;
    // Another user's program must not become the proxy by taking its port first, where the kernel tells users.
    let by_user = settings.exempt_mark == 0 && maps::has_task_in_sockops();
    if by_user && bpf_get_current_uid_gid() as u32 != settings.exempt_uid {
        return None;
    }
    if port == settings.outbound_port {
        Some(Role::Outbound as u32)
    } else if port == settings.inbound_port {
        Some(Role::Inbound as u32)
    } else {
        None
    }
}

/// Registers a listener of the proxy; a later one replaces an earlier one. An IPv6 listener on all addresses serves
/// IPv4 as well.
#[inline(always)]
fn register(ctx: &SockOpsContext, key: ListenerKey, listener: Listener) {
    enlist(ctx, key, listener);
    if key.family == 6 && listener_end(ctx).ip.is_unspecified() {
        let v4 = ListenerKey { family: 4, ..key };
        if PROXY.get_ptr(v4).is_none() {
            enlist(ctx, v4, listener);
        }
    }
}

#[inline(always)]
fn enlist(ctx: &SockOpsContext, mut key: ListenerKey, listener: Listener) {
    // SAFETY: `ctx.ops` is the program's own context.
    let ops = unsafe { &mut *ctx.ops };
    if PROXY_SOCKETS.update(&mut key, ops, 0).is_err() || PROXY.insert(key, listener, 0).is_err() {
        count(Stat::ServicesFull);
    }
}

/// Where a listener listens. Its remote end is zero, so the family alone tells which address fields hold.
#[inline(always)]
fn listener_end(ctx: &SockOpsContext) -> Endpoint {
    let ops = ctx.ops;
    let (v4, v6) = (Ip::v4(field!(ops, local_ip4)), ip6!(ops, local_ip6));
    let ip = if field!(ops, family) == AF_INET { v4 } else { v6 };
    Endpoint::new(ip, field!(ops, local_port) as u16)
}

/// The program that listens there.
#[inline(always)]
fn program_behind(netns: NetnsCookie, local: &Endpoint) -> Program {
    let find = |ip: Ip| {
        let key = ServiceKey { netns, endpoint: Endpoint::new(ip, local.port) };
        // SAFETY: see `maps`.
        let learned = unsafe { SERVICES.get(key) }.filter(|service| service.listeners > 0);
        // SAFETY: see `maps`.
        learned.map(|service| service.program).or_else(|| unsafe { SEEDED.get(key) }.copied())
    };
    let v4 = if local.ip.is_v4() { find(Ip::v4(0)) } else { None };
    find(local.ip).or(v4).or_else(|| find(Ip([0; 4]))).unwrap_or_default()
}

#[inline(always)]
fn record_of(ctx: &SockOpsContext) -> Option<&'static mut Record> {
    // SAFETY: see `maps`.
    RECORDS.get_ptr_mut(cookie(ctx.ops)).map(|record| unsafe { &mut *record })
}

#[inline(always)]
fn publish(flow: &FlowKey, origin: &Origin) {
    if ORIGINS.insert(flow, origin, 0).is_err() {
        count(Stat::OriginsFull);
    }
}

/// Asks for callbacks of this socket.
#[inline(always)]
fn watch(ctx: &SockOpsContext, flags: u32) {
    let _ = ctx.set_cb_flags(flags as i32);
}

/// Adds to a counter that other CPUs change as well. The target has no compare-and-swap before kernel 5.12, so
/// `core` offers no `fetch_add` for it; the instruction for it is older.
#[inline(always)]
unsafe fn add(counter: *mut u64, value: u64) {
    // SAFETY: the caller's pointer is to a map value, aligned to eight bytes.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
}
