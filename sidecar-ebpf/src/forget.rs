//! Removing what was noted of a socket that never got to a state change, or that is gone.

use aya_ebpf::programs::SockContext;

use crate::maps::{DIALS, RECORDS, ROLES};
use crate::sock::{cookie, field, tcp};
use crate::{bypass, meet};

/// A program let go of a socket. What connect() noted of one that never got to `TCP_CONNECT_CB` is removed here: no
/// state change is to come for it. connect() can fail after the hook, say for want of a route; and with
/// `TCP_FASTOPEN_CONNECT` the SYN waits for the first write, which may never come.
#[inline(always)]
pub fn released(ctx: &SockContext) {
    let cookie = cookie(ctx.sock);
    if let Some(record) = RECORDS.get_ptr(cookie)
        // SAFETY: see `maps`.
        && unsafe { (*record).state } == 0
    {
        let _ = RECORDS.remove(cookie);
    }
    let state = field!(ctx.sock, state);
    bypass::released(cookie, state);
    meet::left(cookie);
    // A listener's role is still asked for when it leaves its state, which comes later.
    if state == tcp::CLOSE {
        let _ = DIALS.remove(cookie);
        let _ = ROLES.remove(cookie);
    }
}
