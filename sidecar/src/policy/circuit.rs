//! Circuit breakers: how much may be under way at a time. What is over the bound is refused and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::config::traffic::ConnectionPool;

/// The bounds of one backend.
#[derive(Debug)]
pub struct Circuit {
    /// Connections.
    pub connections: Arc<Bound>,
    /// Requests that wait for a connection.
    pub pending: Arc<Bound>,
    /// Requests.
    pub requests: Arc<Bound>,
    /// Retries.
    pub retries: Arc<Bound>,
}

/// At most so many at a time.
#[derive(Debug)]
pub struct Bound {
    limit: u32,
    used: AtomicU32,
    refused: AtomicU64,
}

/// One of those; dropped, its place is free.
#[derive(Debug)]
#[must_use]
pub struct Permit(Arc<Bound>);

impl Circuit {
    /// The bounds that the configuration gives.
    pub fn new(config: &ConnectionPool) -> Self {
        let bound = |limit| Arc::new(Bound::new(limit));
        Self {
            connections: bound(config.max_connections),
            pending: bound(config.max_pending_requests),
            requests: bound(config.max_requests),
            retries: bound(config.max_retries),
        }
    }
}

impl Bound {
    /// Nothing is under way. A limit of 0 lets nothing in.
    pub fn new(limit: u32) -> Self {
        Self { limit, used: AtomicU32::new(0), refused: AtomicU64::new(0) }
    }

    /// One more, unless the bound is reached, which is counted.
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let permit = self.take();
        if permit.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        permit
    }

    /// Likewise, by who waits if there is none.
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        let more = |used: u32| (used < self.limit).then_some(used + 1);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Permit(Arc::clone(self)))
    }

    /// The bound.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How many are under way.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// How many were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn each_bound_has_its_limit() {
        let config = ConnectionPool { max_retries: 0, max_connections: 2, ..ConnectionPool::default() };
        let circuit = Circuit::new(&config);
        let first = circuit.connections.acquire();
        let second = circuit.connections.acquire();
        assert!(first.is_some() && second.is_some() && circuit.connections.acquire().is_none());
        assert_eq!((circuit.connections.used(), circuit.connections.refused()), (2, 1));
        drop(first);
        assert!(circuit.connections.acquire().is_some());
        assert!(circuit.retries.acquire().is_none());
        assert_eq!((circuit.requests.limit(), circuit.pending.limit()), (1024, 1024));
    }

    #[test]
    fn threads_together_keep_to_the_limit() {
        let bound = Arc::new(Bound::new(3));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let permit = bound.acquire();
                        assert!(bound.used() <= 3);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(bound.used(), 0);
    }
}
