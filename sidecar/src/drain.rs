//! Ending gracefully, then by force.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// How far the end has come. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Serving,
    /// No new connections; those that are open go on.
    Draining,
    /// The application is gone: a connection ends once what the application sent has been delivered.
    ApplicationGone,
    /// All connections end now.
    Forced,
}

/// Why a connection is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// The application is gone, and all that it sent is delivered.
    Delivered,
    /// The time for that is over.
    Forced,
}

/// Ends the proxy's connections, and counts them: an open connection holds a permit of the limit.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    permits: Arc<Semaphore>,
    limit: u32,
}

impl Drain {
    /// Nothing ends yet. `limit`: how many connections may be open at once.
    pub fn new(limit: u32) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            permits: Arc::new(Semaphore::new(limit as usize)),
            limit,
        }
    }

    /// Admits a connection, which is open until the permit is dropped. `None`: the limit is reached.
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// No new connections from now on.
    pub fn start(&self) {
        self.advance(Phase::Draining);
    }

    /// The application has ended.
    pub fn application_gone(&self) {
        self.advance(Phase::ApplicationGone);
    }

    /// Waits until no connection is open, at most for `grace`; then ends those that are, and waits for that.
    pub async fn finish(&self, grace: Duration) {
        if timeout(grace, self.all_closed()).await.is_err() {
            tracing::info!(?grace, "the drain time is over: open connections are reset");
            self.advance(Phase::Forced);
            self.all_closed().await;
        }
    }

    /// Resolves when no new connections are to be accepted.
    pub async fn started(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves when a connection is to end: at once, or since the application is gone and `delivered` has told that all that it
    /// sent is.
    pub async fn over(&self, delivered: &Notify) -> Over {
        let mut phase = self.phase.subscribe();
        let forced = |now: &Phase| *now == Phase::Forced;
        // The sender is `self`, so it cannot be gone.
        if phase.wait_for(|now| *now >= Phase::ApplicationGone).await.is_ok_and(|now| forced(&now)) {
            return Over::Forced;
        }
        tokio::select! {
            () = delivered.notified() => Over::Delivered,
            _ = phase.wait_for(forced) => Over::Forced,
        }
    }

    /// Resolves when connections are to end at once.
    pub async fn forced(&self) {
        self.reached(Phase::Forced).await;
    }

    /// True once [`Self::start`] was called.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let further = to > *phase;
            *phase = to.max(*phase);
            further
        });
    }

    async fn reached(&self, phase: Phase) {
        // The sender is `self`, so it cannot be gone.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    async fn all_closed(&self) {
        // Never closed, so this can only wait.
        let _ = self.permits.acquire_many(self.limit).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn finish_waits_for_open_connections_and_then_forces() {
        let drain = Drain::new(2);
        let permit = drain.admit().unwrap();
        let other = drain.admit().unwrap();
        assert!(drain.admit().is_none(), "the limit is two");
        drop(other);
        drain.start();
        let connection = tokio::spawn({
            let drain = drain.clone();
            async move {
                drain.forced().await;
                drop(permit);
            }
        });
        let before = tokio::time::Instant::now();
        drain.finish(Duration::from_secs(30)).await;
        assert_eq!(before.elapsed(), Duration::from_secs(30));
        connection.await.unwrap();
    }

    #[tokio::test]
    async fn phases_never_go_back() {
        let drain = Drain::new(1);
        drain.application_gone();
        drain.start();
        assert!(drain.is_draining());
        let delivered = Notify::new();
        delivered.notify_one();
        assert_eq!(drain.over(&delivered).await, Over::Delivered);
    }
}
