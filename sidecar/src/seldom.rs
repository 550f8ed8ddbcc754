//! A future that is rarely ready, beside one that wakes the task often: polled only when it asked for it itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;

pin_project! {
    /// Wraps the future.
    pub(crate) struct Seldom<F> {
        #[pin]
        future: F,
        alarm: Option<(Waker, Arc<Alarm>)>,
    }
}

struct Alarm {
    raised: AtomicBool,
    task: Waker,
}

impl<F> Seldom<F> {
    /// To be polled again and again, cheaply.
    pub(crate) fn new(future: F) -> Self {
        Self { future, alarm: None }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let (future, alarm) = (this.future, this.alarm);
        // A task keeps its waker; one that moved to another task begins anew.
        if alarm.as_ref().is_none_or(|(_, alarm)| !alarm.task.will_wake(cx.waker())) {
            let fresh = Arc::new(Alarm { raised: AtomicBool::new(true), task: cx.waker().clone() });
            *alarm = Some((Waker::from(Arc::clone(&fresh)), fresh));
        }
        match alarm {
            Some((waker, alarm)) if alarm.raised.swap(false, Ordering::AcqRel) => {
                future.poll(&mut Context::from_waker(waker))
            }
            _ => Poll::Pending,
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_only_when_it_asked() {
        let (polls, told, nudge) = (Cell::new(0), Notify::new(), Notify::new());
        let mut notified = std::pin::pin!(told.notified());
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            notified.as_mut().poll(cx)
        });
        let mut seldom = std::pin::pin!(Seldom::new(counted));
        let task = async {
            for round in 0..3 {
                let mut nudged = std::pin::pin!(nudge.notified());
                poll_fn(|cx| {
                    assert!(seldom.as_mut().poll(cx).is_pending(), "round {round}");
                    nudged.as_mut().poll(cx)
                })
                .await;
            }
            seldom.await;
        };
        let other = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
                nudge.notify_one();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            told.notify_one();
        };
        tokio::join!(task, other);
        assert_eq!(polls.get(), 2, "once at first, once when it was ready");
    }
}
