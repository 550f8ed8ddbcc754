//! The kernel half of sidecar: section entry points only. Each hands its context to the file named after what it
//! does and maps the answer to what the hook expects.
//!
//! The kernel half steers; it never authorizes, and it never fails a call for a reason of its own: where it cannot
//! do its work, `onProxyDown` says what becomes of the connection.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the only way to an atomic addition on this target")]

mod ask;
mod bypass;
mod connect;
mod decide;
mod enrol;
mod forget;
mod gather;
mod layout;
mod lookup;
mod maps;
mod meet;
mod peername;
mod record;
mod sock;
mod sockops;
mod sockopt;
mod splice;
mod tell;

use aya_ebpf::macros::{
    cgroup_sock, cgroup_sock_addr, cgroup_sockopt, classifier, sk_lookup, sk_msg, sock_ops, stream_verdict,
    tracepoint,
};
use aya_ebpf::programs::{
    SkBuffContext, SkLookupContext, SkMsgContext, SockAddrContext, SockContext, SockOpsContext,
    SockoptContext, TcContext, TracePointContext,
};

/// What a cgroup program returns to let the call go on.
const GO_ON: i32 = 1;

#[cgroup_sock_addr(connect4)]
fn sidecar_connect4(ctx: SockAddrContext) -> i32 {
    connect::v4(ctx.sock_addr);
    GO_ON
}

#[cgroup_sock_addr(connect6)]
fn sidecar_connect6(ctx: SockAddrContext) -> i32 {
    connect::v6(ctx.sock_addr);
    GO_ON
}

#[cgroup_sock_addr(getpeername4)]
fn sidecar_peername4(ctx: SockAddrContext) -> i32 {
    peername::v4(ctx.sock_addr);
    GO_ON
}

#[cgroup_sock_addr(getpeername6)]
fn sidecar_peername6(ctx: SockAddrContext) -> i32 {
    peername::v6(ctx.sock_addr);
    GO_ON
}

#[cgroup_sockopt(getsockopt)]
fn sidecar_getsockopt(ctx: SockoptContext) -> i32 {
    sockopt::answer(ctx.sockopt);
    GO_ON
}

#[cgroup_sockopt(setsockopt)]
fn sidecar_setsockopt(ctx: SockoptContext) -> i32 {
    // 0 fails the call with EPERM: what the proxy told could not be kept.
    i32::from(tell::listen(ctx.sockopt).is_ok())
}

#[cgroup_sock(sock_release)]
fn sidecar_release(ctx: SockContext) -> i32 {
    forget::released(&ctx);
    GO_ON
}

#[sock_ops]
fn sidecar_sockops(ctx: SockOpsContext) -> u32 {
    sockops::called(&ctx);
    1
}

#[sk_lookup]
fn sidecar_lookup(ctx: SkLookupContext) -> u32 {
    lookup::steer(&ctx)
}

#[sk_msg]
fn sidecar_bypass(ctx: SkMsgContext) -> u32 {
    bypass::redirect(&ctx, maps::own_pairs())
}

#[sk_msg]
fn sidecar_node_bypass(ctx: SkMsgContext) -> u32 {
    bypass::redirect(&ctx, maps::node_pairs())
}

/// Never attached: userspace runs it.
#[classifier]
fn sidecar_enrol(ctx: TcContext) -> i32 {
    enrol::answer(&ctx);
    0
}

#[classifier]
fn sidecar_ask(ctx: TcContext) -> i32 {
    ask::passes(&ctx)
}

#[tracepoint(category = "syscalls", name = "sys_enter_splice")]
fn sidecar_splice(ctx: TracePointContext) -> u32 {
    splice::seen(&ctx);
    0
}

#[stream_verdict]
fn sidecar_gather(ctx: SkBuffContext) -> u32 {
    gather::pass(&ctx, maps::own_pairs())
}

#[stream_verdict]
fn sidecar_node_gather(ctx: SkBuffContext) -> u32 {
    gather::pass(&ctx, maps::node_pairs())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual BSD/GPL\0";
