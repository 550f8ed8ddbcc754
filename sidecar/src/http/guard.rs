//! The socket of an HTTP/1.1 client: what its requests' framing leaves open does not pass.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::framing::{Bad, Bounds, Framing, Refusal};
use super::interim::Interims;
use crate::net::io::{Io, Socket};

/// What is known of a client's bytes, shared by who reads them and who answers.
pub(super) struct Guard {
    state: Mutex<State>,
    /// A request begins whose header has not come whole.
    pub(super) partial: Notify,
    /// What is said before an answer.
    pub(super) interims: Arc<Interims>,
}

struct State {
    framing: Framing,
    /// What came after a request that asks for another protocol.
    held: Vec<u8>,
    /// Who reads on when that is decided.
    reader: Option<Waker>,
    refusal: Option<Refusal>,
    /// The last header that was said to be partial.
    told: Option<u64>,
}

/// A client's socket behind its guard.
pub(super) struct Guarded<S> {
    io: Io<S>,
    guard: Arc<Guard>,
}

// === impl Guard ===

impl Guard {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = State {
            framing: Framing::new(bounds),
            held: Vec::new(),
            reader: None,
            refusal: None,
            told: None,
        };
        Self { state: Mutex::new(state), partial: Notify::new(), interims: Arc::default() }
    }

    /// Why nothing more is read.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.lock().refusal
    }

    /// The number of the header that is being read; `None`: none is.
    pub(super) fn head(&self) -> Option<u64> {
        self.lock().framing.head()
    }

    /// Refuses what comes.
    pub(super) fn refuse(&self, refusal: Refusal) {
        let mut state = self.lock();
        state.refusal.get_or_insert(refusal);
    }

    /// The request that asks for another protocol was answered.
    pub(super) fn decide(&self, switched: bool) {
        let mut state = self.lock();
        if state.framing.is_undecided() {
            state.framing.decide(switched);
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
        }
    }

    /// All requests that began have come whole, and nothing of another has; nor is anything left to be said.
    pub(super) fn is_between(&self) -> bool {
        let state = self.lock();
        let nothing_left = state.held.is_empty() && state.refusal.is_none();
        nothing_left && state.framing.is_between() && !self.interims.wait()
    }

    /// Keeps nothing that the next request does not need.
    pub(super) fn rest(&self) {
        let mut state = self.lock();
        state.held.shrink_to_fit();
        state.framing.rest();
    }

    /// Says once of each header that it has not come whole.
    fn tell(&self, state: &mut State) {
        let head = state.framing.head();
        if head.is_some() && state.told != head {
            state.told = head;
            self.partial.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What of the bytes may be passed on; the rest is held. 0 where nothing may.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        match self.framing.take(bytes) {
            Ok(taken) => {
                self.held.extend_from_slice(&bytes[taken..]);
                taken
            }
            Err(Bad { refusal, before }) => {
                self.refusal = Some(refusal);
                before
            }
        }
    }
}

impl State {
    /// A read that brought nothing is the end to whoever reads: it is one only after a refusal.
    fn passed(&mut self, something: bool, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if something || self.refusal.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

// === impl Guarded ===

impl<S> Guarded<S> {
    pub(super) fn new(io: Io<S>, guard: Arc<Guard>) -> Self {
        Self { io, guard }
    }
}

impl<S: Socket> Guarded<S> {
    /// `flushed`: hyper has nothing more to write.
    fn poll_interims(&mut self, cx: &mut Context<'_>, flushed: bool) -> Poll<io::Result<()>> {
        let anew = flushed || !self.io.0.unflushed().load(Ordering::Relaxed);
        self.guard.interims.poll_write(&mut self.io, cx, anew)
    }
}

impl<S: Socket> AsyncRead for Guarded<S> {
    /// After a refusal the end: hyper finishes what it has, and closes.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let guard = Arc::clone(&self.guard);
        let before = buffer.filled().len();
        {
            let mut state = guard.lock();
            if state.refusal.is_some() {
                return Poll::Ready(Ok(()));
            }
            if state.framing.is_undecided() {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if !state.held.is_empty() {
                let held = std::mem::take(&mut state.held);
                let (now, later) = held.split_at(held.len().min(buffer.remaining()));
                let passed = state.pass(now);
                buffer.put_slice(&now[..passed]);
                state.held.extend_from_slice(later);
                guard.tell(&mut state);
                return state.passed(passed > 0, cx);
            }
        }
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let mut state = guard.lock();
        let read = &buffer.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let passed = state.pass(read);
        buffer.set_filled(before + passed);
        guard.tell(&mut state);
        state.passed(passed > 0, cx)
    }
}

impl<S: Socket> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx, false))?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx, false))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interims(cx, true))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.guard.refusal().is_some() {
            // Why is still to be said.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
