//! setsockopt(): what the proxy tells of its sockets, without any capability.

use aya_ebpf::bindings::bpf_sockopt;
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_uid_gid};
use sidecar_common::flow::{ListenerKey, NetnsCookie, Role};
use sidecar_common::option::{self, Announce, Forward};
use sidecar_common::settings::NO_UID;
use sidecar_common::stats::Stat;

use crate::maps::{self, DIALS, PROXY, ROLES, count};
use crate::sock::{field, netns_of_sockopt, set_field};
use crate::sockopt::leave_large_buffers;

/// Nothing was kept: a map is full.
pub struct Full;

/// Keeps what the proxy tells; leaves all else to the kernel, which knows no such option.
#[inline(always)]
pub fn listen(ctx: *mut bpf_sockopt) -> Result<(), Full> {
    if field!(ctx, level) != option::LEVEL || !from_the_proxy(ctx) {
        leave_large_buffers(ctx);
        return Ok(());
    }
    let kept = match field!(ctx, optname) {
        option::ROLE => value::<Announce>(ctx).map(|announce| role(ctx, &announce)),
        option::FORWARD => value::<Forward>(ctx).map(|forward| DIALS.insert(forward.cookie, forward, 0)),
        _ => None,
    };
    match kept {
        Some(Ok(())) => {
            // The kernel is not asked (Documentation/bpf/prog_cgroup_sockopt.rst).
            set_field!(ctx, -1, optlen);
            Ok(())
        }
        Some(Err(_)) => {
            count(Stat::DialsFull);
            Err(Full)
        }
        None => Ok(()),
    }
}

/// A role before listen() is kept for `TCP_LISTEN_CB`. `Retired` takes effect at once: no connection is sent to
/// the listener any more, and the proxy can empty its queue.
#[inline(always)]
fn role(ctx: *mut bpf_sockopt, announce: &Announce) -> Result<(), i32> {
    if announce.role != Role::Retired as u32 {
        return ROLES.insert(announce.cookie, announce.role, 0);
    }
    // SAFETY: see `maps`.
    if let Some(role) = unsafe { ROLES.get(announce.cookie) } {
        retire(netns_of_sockopt(ctx), *role, announce.cookie);
    }
    Ok(())
}

/// Takes a listener off in both families, since one on all IPv6 addresses serves IPv4 as well; but not where a later
/// listener has replaced it.
#[inline(always)]
pub fn retire(netns: NetnsCookie, role: u32, cookie: u64) {
    retire_from(&ListenerKey { netns, role, family: 4 }, cookie);
    retire_from(&ListenerKey { netns, role, family: 6 }, cookie);
}

#[inline(always)]
fn retire_from(key: &ListenerKey, cookie: u64) {
    // SAFETY: see `maps`.
    if let Some(listener) = unsafe { PROXY.get(key) }
        && listener.cookie == cookie
    {
        let _ = PROXY.remove(key);
    }
}

/// The caller is the proxy, by whichever way it can be told in this way of running.
#[inline(always)]
pub fn from_the_proxy(ctx: *mut bpf_sockopt) -> bool {
    let Some(settings) = maps::settings() else { return false };
    // SAFETY: helpers without arguments.
    let (cgroup, uid) = unsafe { (bpf_get_current_cgroup_id(), bpf_get_current_uid_gid() as u32) };
    // SAFETY: `sk` is a context field; a null one is handled.
    let sk = unsafe { (*ctx).__bindgen_anon_1.sk };
    (settings.exempt_cgroup != 0 && settings.exempt_cgroup == cgroup)
        || (settings.exempt_uid != NO_UID && settings.exempt_uid == uid)
        || (settings.exempt_mark != 0 && !sk.is_null() && field!(sk, mark) == settings.exempt_mark)
}

/// The option's value, if the caller's buffer holds it.
#[inline(always)]
fn value<T: Copy>(ctx: *mut bpf_sockopt) -> Option<T> {
    // SAFETY: these are context fields.
    let (start, end) = unsafe { ((*ctx).__bindgen_anon_2.optval, (*ctx).__bindgen_anon_3.optval_end) };
    if start as usize + core::mem::size_of::<T>() > end as usize {
        return None;
    }
    // SAFETY: the buffer holds that many bytes, which the verifier has seen checked.
    Some(unsafe { core::ptr::read_unaligned(start.cast::<T>()) })
}
