//! All ends of this process: who is there, what failed, and who hangs.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use crate::drive::drive;
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::plan::End;

/// How many failures are kept; the rest is counted.
const MOST_FAILURES: usize = 20;

/// The ends that are live, and what became of the others.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    live: Mutex<Vec<Weak<Endpoint>>>,
    failures: Mutex<Vec<String>>,
    pub failed: AtomicU64,
    /// Bytes that were received and were right.
    pub bytes: AtomicU64,
    pub ended: AtomicU64,
}

impl Crowd {
    /// Runs an end to its end and closes it.
    pub(crate) fn run(&self, end: Endpoint, fault: Option<Fault>) {
        let end = Arc::new(end);
        self.lock().push(Arc::downgrade(&end));
        drive(&end, fault);
        self.bytes.fetch_add(end.received(), Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = end.failure() {
            self.fail(failure);
        }
        if matches!(end.side().end, End::Reset(_)) && end.is_to_break() {
            let now = libc::linger { l_onoff: 1, l_linger: 0 };
            // Fails when the other side was first.
            let _ = setsockopt(&end.socket, sockopt::Linger, &now);
        }
    }

    /// Keeps a failure, and says it at once.
    pub(crate) fn fail(&self, failure: String) {
        // In one piece: client and server share the standard error stream.
        let _ = std::io::stderr().write_all(format!("FAILED {failure}\n").as_bytes());
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < MOST_FAILURES {
            failures.push(failure);
        }
    }

    /// The first failures.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many ends are live.
    pub(crate) fn live(&self) -> usize {
        self.lock().iter().filter(|end| end.strong_count() > 0).count()
    }

    /// Ends every end on which nothing has moved for so long: it hangs, since nobody pauses that long.
    pub(crate) fn end_hanging(&self, patience: Duration) {
        let ends: Vec<_> = {
            let mut live = self.lock();
            live.retain(|end| end.strong_count() > 0);
            live.iter().filter_map(Weak::upgrade).collect()
        };
        for end in ends.iter().filter(|end| end.idle() > patience && !end.is_over()) {
            let descriptor = end.socket.as_raw_fd();
            end.fail(format!("nothing moved for {patience:?} (descriptor {descriptor}): {}", end.state()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Endpoint>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
