//! The tracepoint at splice(2): it takes from the TCP queue alone, so nothing may be redirected to a socket that is read
//! that way. Costs nothing to programs that do not splice. (fentry on tcp_splice_read() would be simpler, but not every
//! kernel lets tracing programs in.)

use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::programs::TracePointContext;

use crate::layout::File;
use crate::maps::{PEERS, RECORDS};

/// Where `fd_in` is among what the tracepoint gives (/sys/kernel/tracing/events/syscalls/sys_enter_splice/format).
const FD_IN: usize = 16;

/// A program splices from this file descriptor.
#[inline(always)]
pub fn seen(ctx: &TracePointContext) {
    // SAFETY: the tracepoint's arguments are 8 bytes each.
    let Ok(fd) = (unsafe { ctx.read_at::<u64>(FD_IN) }) else { return };
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let Some(socket) = File::of(task, fd as u32).and_then(File::socket) else { return };
    let Some(cookie) = socket.cookie() else { return };
    // The first look, which may enrol at once, comes after its first messages.
    if let Some(record) = RECORDS.get_ptr_mut(cookie) {
        // SAFETY: see `maps`; one aligned store.
        unsafe { (*record).spliced = 1 };
    }
    let Some(entry) = PEERS.get_ptr_mut(cookie) else { return };
    // SAFETY: see `maps`; aligned stores.
    let other = unsafe {
        (*entry).spliced = 1;
        (*entry).cookie
    };
    // Whoever sends to it looks at its own entry.
    if let Some(other) = PEERS.get_ptr_mut(other) {
        // SAFETY: as above.
        unsafe { (*other).spliced = 1 };
    }
}
