//! How long a request may take, and how long its bytes may stand still. One task of each thread looks at all its requests,
//! at the moments when one of them may be over its time: a request itself has no timer.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::reply::Reply;

/// A silence is noticed when this part of the time that it may last has passed beyond it, at the latest.
const PARTS: u32 = 4;
/// Where no idle time-out and no deadline is, a request is looked at this seldom.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A request whose time is watched, from its header to the end of its answer.
pub(super) struct Watched {
    /// Rises with each piece of its body and its answer's.
    moved: AtomicU64,
    /// The size of its body so far.
    request_bytes: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// How long nothing may move; zero: for ever.
    idle: Duration,
    /// When it must be over, and what that says.
    until: Option<(Instant, Over)>,
    /// What had moved when it was last looked at, and since when nothing has.
    seen: u64,
    still_since: Instant,
    over: Option<Over>,
    ended: bool,
    /// Who serves it.
    waker: Option<Waker>,
    /// Its place in the list of its thread.
    place: usize,
}

/// What lasted too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Over {
    /// The request with all its attempts.
    Request,
    /// The attempt that is answered.
    Attempt,
    /// A silence.
    Idle,
}

/// The requests of a thread.
#[derive(Default)]
struct Watch {
    list: Vec<Option<Arc<Watched>>>,
    free: Vec<usize>,
    /// When the list is looked at next; `None`: nobody does.
    next: Option<Instant>,
    sooner: Arc<Notify>,
}

thread_local! {
    static WATCH: RefCell<Watch> = RefCell::default();
    /// The request that began while a task was polled, for [`until_over`].
    static BEGUN: RefCell<Option<Arc<Watched>>> = const { RefCell::new(None) };
}

// === impl Over ===

impl Over {
    /// Envoy's response flags.
    pub(super) fn flags(self) -> &'static str {
        match self {
            Self::Request | Self::Attempt => "UT",
            Self::Idle => "SI",
        }
    }

    /// What the client is told where nothing was answered.
    pub(super) fn reply(self) -> Reply {
        let reason = match self {
            Self::Request => "request-timeout",
            Self::Attempt => "upstream-timeout",
            Self::Idle => "stream-idle-timeout",
        };
        Reply::new(StatusCode::GATEWAY_TIMEOUT, reason, self.flags())
    }
}

// === impl Watched ===

impl Watched {
    /// A request begins, in which nothing may stand still for longer than `idle`; zero: for ever.
    pub(super) fn new(idle: Duration, now: Instant) -> Arc<Self> {
        let watched = Arc::new(Self {
            moved: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            state: Mutex::new(State {
                idle,
                until: None,
                seen: 0,
                still_since: now,
                over: None,
                ended: false,
                waker: None,
                place: 0,
            }),
        });
        let place = WATCH.with_borrow_mut(|watch| watch.add(&watched, now + idle_step(idle)));
        watched.lock().place = place;
        BEGUN.set(Some(Arc::clone(&watched)));
        watched
    }

    /// From now on it may stand still so long; zero: for ever.
    pub(super) fn limit_idle(&self, idle: Duration, now: Instant) {
        let mut state = self.lock();
        (state.idle, state.still_since) = (idle, now);
        drop(state);
        sooner(now + idle_step(idle));
    }

    /// It must be over by then, if not before.
    pub(super) fn limit_until(&self, until: Instant, over: Over) {
        let mut state = self.lock();
        if state.until.is_none_or(|(other, _)| until < other) {
            state.until = Some((until, over));
        }
        drop(state);
        sooner(until);
    }

    /// More of its body goes up.
    pub(super) fn sent(&self, bytes: u64) {
        self.request_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.moved();
    }

    /// More of its answer comes down.
    pub(super) fn moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// The size of its body so far.
    pub(super) fn request_bytes(&self) -> u64 {
        self.request_bytes.load(Ordering::Relaxed)
    }

    /// It is over, or nobody's time is limited any more: what it does is not looked at again.
    pub(super) fn end(self: &Arc<Self>) {
        let mut state = self.lock();
        state.ended = true;
        let waker = state.waker.take();
        let place = state.place;
        drop((state, waker));
        WATCH.with_borrow_mut(|watch| watch.remove(place, self));
    }

    /// What lasted too long, if something did.
    pub(super) fn over(&self) -> Option<Over> {
        self.lock().over
    }

    /// Ready when something lasts too long. Wakes the last task that asked.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<Over> {
        Self::poll(&mut self.lock(), cx)
    }

    fn poll(state: &mut State, cx: &Context<'_>) -> Poll<Over> {
        if let Some(over) = state.over {
            return Poll::Ready(over);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// What comes of `deciding`, unless that lasts too long.
    pub(super) async fn within<F: Future>(&self, mut deciding: Pin<&mut F>) -> Result<F::Output, Over> {
        poll_fn(|cx| match deciding.as_mut().poll(cx) {
            Poll::Ready(decided) => Poll::Ready(Ok(decided)),
            Poll::Pending => self.poll_over(cx).map(Err),
        })
        .await
    }

    /// Looks whether it lasts too long; when to look again.
    fn look(&self, now: Instant) -> Option<Instant> {
        let moved = self.moved.load(Ordering::Relaxed);
        let mut state = self.lock();
        if state.ended || state.over.is_some() {
            return None;
        }
        if moved != state.seen {
            (state.seen, state.still_since) = (moved, now);
        }
        let silent = !state.idle.is_zero() && now.duration_since(state.still_since) >= state.idle;
        let over = match state.until {
            Some((until, over)) if until <= now => Some(over),
            _ => silent.then_some(Over::Idle),
        };
        if over.is_some() {
            state.over = over;
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return None;
        }
        let idle = match state.idle {
            Duration::ZERO => now + NEVER,
            idle => (state.still_since + idle).min(now + idle_step(idle)),
        };
        Some(state.until.map_or(idle, |(until, _)| until.min(idle)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn idle_step(idle: Duration) -> Duration {
    if idle.is_zero() { NEVER } else { idle / PARTS }
}

// === impl Watch ===

impl Watch {
    fn add(&mut self, watched: &Arc<Watched>, due: Instant) -> usize {
        let watched = Some(Arc::clone(watched));
        let place = self.free.pop().unwrap_or(self.list.len());
        match self.list.get_mut(place) {
            Some(slot) => *slot = watched,
            None => self.list.push(watched),
        }
        self.sooner(due);
        place
    }

    fn remove(&mut self, place: usize, watched: &Arc<Watched>) {
        // What ends on another thread is found by the next look.
        if let Some(found) = self.list.get_mut(place)
            && found.as_ref().is_some_and(|found| Arc::ptr_eq(found, watched))
        {
            *found = None;
            self.free.push(place);
        }
    }

    /// Sees to it that the list is looked at by then.
    fn sooner(&mut self, due: Instant) {
        match self.next {
            Some(next) if next <= due => {}
            Some(_) => {
                self.next = Some(due);
                self.sooner.notify_one();
            }
            None => {
                self.next = Some(due);
                // On this thread, whose list it is.
                tokio::spawn(keep_looking(Arc::clone(&self.sooner)));
            }
        }
    }

    /// Looks at all; when to do so again.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (place, slot) in self.list.iter_mut().enumerate() {
            let Some(watched) = slot else { continue };
            let due = watched.look(now);
            if due.is_none() {
                *slot = None;
                self.free.push(place);
            }
            next = next.into_iter().chain(due).min();
        }
        if next.is_none() {
            (self.list, self.free) = (Vec::new(), Vec::new());
        }
        self.next = next;
        next
    }
}

fn sooner(due: Instant) {
    WATCH.with_borrow_mut(|watch| watch.sooner(due));
}

/// As long as there are requests.
async fn keep_looking(sooner: Arc<Notify>) {
    loop {
        let Some(next) = WATCH.with_borrow(|watch| watch.next) else { return };
        tokio::select! {
            () = sleep_until(next) => {
                if WATCH.with_borrow_mut(|watch| watch.look(Instant::now())).is_none() {
                    return;
                }
            }
            () = sooner.notified() => {}
        }
    }
}

/// Polls what serves requests, and gives it up when the time of one that it began is over and it does not end that itself:
/// its client does not take what it is to send. `last`: the request that it serves.
pub(super) async fn until_over<F: Future>(
    mut serving: Pin<&mut F>,
    last: &mut Option<Arc<Watched>>,
) -> Result<F::Output, Over> {
    poll_fn(|cx| {
        let served = serving.as_mut().poll(cx);
        if let Some(begun) = BEGUN.take() {
            *last = Some(begun);
        }
        if let Poll::Ready(served) = served {
            return Poll::Ready(Ok(served));
        }
        let Some(watched) = last else { return Poll::Pending };
        let mut state = watched.lock();
        if !state.ended {
            return Watched::poll(&mut state, cx).map(Err);
        }
        drop(state);
        *last = None;
        Poll::Pending
    })
    .await
}
