//! Removing what was noted of a socket that never got to a state change, or that is gone.

use aya_ebpf::programs::SockContext;

use crate::maps::{DIALS, RECORDS, ROLES};
use crate::sock::{cookie, field};

/// include/net/tcp_states.h
const TCP_CLOSE: u32 = 7;

/// A program let go of a socket. One that was never connected has no state change to come, so what connect() noted
/// is removed here: connect() can fail after the hook, say for want of a route.
#[inline(always)]
pub fn released(ctx: &SockContext) {
    if field!(ctx.sock, state) != TCP_CLOSE {
        return;
    }
    let cookie = cookie(ctx.sock);
    let _ = DIALS.remove(cookie);
    let _ = ROLES.remove(cookie);
    if let Some(record) = RECORDS.get_ptr(cookie)
        // SAFETY: the map is not preallocated, so the entry stays while this program runs.
        && unsafe { (*record).state } == 0
    {
        let _ = RECORDS.remove(cookie);
    }
}
