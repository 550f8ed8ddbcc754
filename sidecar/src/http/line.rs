//! Requests that wait for a connection where a backend may have no more of them. Who came first is served first: by a
//! connection that is done with another request, or by the place of one that closed.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Version;
use super::pool::Pooled;
use crate::policy::circuit::{Circuit, Permit};

/// Those that wait for connections of one backend, on all threads. As many as its circuit breaker lets.
#[derive(Default)]
pub(crate) struct Line {
    /// How many; to be known without the lock.
    waiting: AtomicUsize,
    numbers: AtomicU64,
    queue: Mutex<VecDeque<Waiter>>,
}

struct Waiter {
    number: u64,
    wants: Wants,
    turn: oneshot::Sender<Turn>,
}

/// Which connections are of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wants {
    /// To this endpoint.
    pub endpoint: u64,
    /// That speak this.
    pub version: Version,
}

/// What a request gets that waited.
pub(super) enum Turn {
    /// A connection that is there.
    Connection(Pooled),
    /// Leave to open one.
    Place(Place),
}

/// A place among the connections of a backend. Dropped, it goes to the next in line.
pub(super) struct Place {
    permit: Option<Permit>,
    line: Arc<Line>,
}

/// A request in line, until this is dropped.
struct Waiting<'a> {
    line: &'a Line,
    number: u64,
}

// === impl ===

impl Line {
    /// Some wait.
    pub(super) fn is_needed(&self) -> bool {
        self.waiting() > 0
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// A place for a new connection, or else one of those that there are. `None`: too many wait already. `begun` is called
    /// when it waits: what is unused somewhere is to be offered.
    pub(super) async fn turn(
        self: &Arc<Self>,
        circuit: &Circuit,
        wants: Wants,
        begun: impl FnOnce(),
    ) -> Option<Turn> {
        let place = |permit| Place { permit: Some(permit), line: Arc::clone(self) };
        if let Some(permit) = circuit.connections.take() {
            return Some(Turn::Place(place(permit)));
        }
        let _pending = circuit.pending.acquire()?;
        let (turn, given) = oneshot::channel();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        {
            let mut queue = self.lock();
            queue.push_back(Waiter { number, wants, turn });
            self.count(&queue);
        }
        let _waiting = Waiting { line: self, number };
        // One that became free just before is nobody's else to give.
        drop(circuit.connections.take().map(place));
        begun();
        given.await.ok()
    }

    /// Gives a connection that nobody uses to who is first in line, if it is of use there. If not, it closes, so that
    /// its place becomes free. Returned: nobody waits.
    pub(super) fn offer(&self, mut connection: Pooled) -> Option<Pooled> {
        let mut queue = self.lock();
        let unused = loop {
            let Some(first) = queue.front() else { break Some(connection) };
            if !first.turn.is_closed() && first.wants != connection.is_for() {
                break None;
            }
            let Some(first) = queue.pop_front() else { break None };
            if first.turn.is_closed() {
                continue;
            }
            connection.begin();
            match first.turn.send(Turn::Connection(connection)) {
                Err(Turn::Connection(refused)) => connection = refused,
                _ => break None,
            }
        };
        self.count(&queue);
        unused
    }

    /// Gives a connection that takes many requests to all that it is of use to. False: others wait yet.
    pub(super) fn share(&self, connection: &Pooled) -> bool {
        let mut queue = self.lock();
        let waiting = std::mem::take(&mut *queue);
        for waiter in waiting {
            let shared = (waiter.wants == connection.is_for()).then(|| connection.share()).flatten();
            match shared {
                Some(shared) => drop(waiter.turn.send(Turn::Connection(shared))),
                None => queue.push_back(waiter),
            }
        }
        self.count(&queue) == 0
    }

    fn pass(self: &Arc<Self>, permit: Permit) {
        let mut queue = self.lock();
        let mut turn = Turn::Place(Place { permit: Some(permit), line: Arc::clone(self) });
        while let Some(first) = queue.pop_front() {
            match first.turn.send(turn) {
                Ok(()) => {
                    self.count(&queue);
                    return;
                }
                Err(refused) => turn = refused,
            }
        }
        self.count(&queue);
        // Free before anybody can join the line, who looks for a free place after that.
        if let Turn::Place(mut place) = turn {
            drop(place.permit.take());
        }
    }

    fn count(&self, queue: &VecDeque<Waiter>) -> usize {
        self.waiting.store(queue.len(), Ordering::Release);
        queue.len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        // Each change leaves it whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.line.pass(permit);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.line.lock();
        if let Some(place) = queue.iter().position(|waiter| waiter.number == self.number) {
            queue.remove(place);
            self.line.count(&queue);
        }
    }
}
