//! The connection record: who, when, and telling userspace.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns,
};
use sidecar_common::address::Endpoint;
use sidecar_common::connection::{Event, EventKind, Record};
use sidecar_common::flow::Program;
use sidecar_common::settings::{Direction, Verdict};
use sidecar_common::stats::Stat;

use crate::maps::{EVENTS, EVENTS_BYTES, count};

/// A quarter of the ring buffer.
const CROWDED: u64 = EVENTS_BYTES as u64 / 4;

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The program that makes the system call this hook runs in.
#[inline(always)]
pub fn program_of_caller() -> Program {
    Program {
        // SAFETY: a helper without arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// Tells userspace that a connection opened or closed, and is in this TCP state now.
#[inline(always)]
pub fn emit(kind: EventKind, state: u32, record: &Record) {
    submit(Event { kind: kind as u32, verdict: 0, record: Record { state, ..*record } });
}

/// The debug switch: tells userspace what was decided on a destination.
#[inline(always)]
pub fn decided(verdict: Verdict, direction: Direction, destination: Endpoint) {
    let record = Record {
        opened_ns: now(),
        original_destination: destination,
        direction: direction as u32,
        ..Record::default()
    };
    submit(Event { kind: EventKind::Decision as u32, verdict: verdict as u32, record });
}

/// Userspace looks every now and then by itself: waking it for each event costs more than the event. Before the buffer
/// fills up it is called; and for inbound connections, whose program it knows from nowhere else.
#[inline(always)]
fn wakeup(direction: u32) -> u64 {
    if direction == Direction::Inbound as u32 {
        return 0;
    }
    let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    u64::from(if waiting > CROWDED { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

#[inline(always)]
fn submit(event: Event) {
    match EVENTS.reserve::<Event>(0) {
        Some(mut entry) => {
            let flags = wakeup(event.record.direction);
            entry.write(event);
            entry.submit(flags);
        }
        None => count(Stat::EventsLost),
    }
}
