//! Interim answers (RFC 9110 section 15.2), which hyper hears of and does not write: they go to the client between two
//! answers, past hyper. Only HTTP/1.1 has them here; of HTTP/2, hyper neither tells nor takes any.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use super::headers;

/// What of them may wait to be written. What does not fit is left out: they are advice.
const MOST: usize = 16 * 1024;

/// Interim answers to the request that is being served.
#[derive(Default)]
pub(super) struct Interims {
    /// There is one to write.
    pub(super) added: Notify,
    /// Whether any waits, for who asks often.
    waits: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Requests so far.
    turn: u64,
    /// The last one has no answer yet.
    open: bool,
    bytes: Vec<u8>,
    /// So many of them are written.
    written: usize,
}

/// A request's turn to be answered. After it, interim answers to that request go nowhere.
pub(super) struct Turn(Arc<Interims>);

impl Interims {
    /// A request whose interim answers its client is to hear.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &mut Request<B>) -> Turn {
        let turn = {
            let mut state = self.lock();
            state.turn += 1;
            state.open = true;
            state.turn
        };
        let interims = Arc::clone(self);
        hyper::ext::on_informational(request, move |answer| {
            interims.add(turn, answer.status(), answer.headers());
        });
        Turn(Arc::clone(self))
    }

    /// True while something waits to be written.
    pub(super) fn wait(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    fn add(&self, turn: u64, status: StatusCode, fields: &HeaderMap) {
        // To continue the client was told by the proxy, which asked for the body.
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let mut fields = fields.clone();
        headers::remove_hop_by_hop(&mut fields, false);
        let mut answer = Vec::new();
        let reason = status.canonical_reason().unwrap_or("");
        // Writing to memory does not fail.
        let _ = write!(answer, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
        for (name, value) in &fields {
            answer.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        answer.extend(b"\r\n");
        let mut state = self.lock();
        if state.open && state.turn == turn && state.bytes.len() + answer.len() <= MOST {
            state.bytes.append(&mut answer);
            self.waits.store(true, Ordering::Release);
            self.added.notify_one();
        }
    }

    /// Writes what waits. To be called where nothing of an answer is half written. `anew`: it may be begun, too.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &self,
        io: &mut W,
        cx: &mut Context<'_>,
        anew: bool,
    ) -> Poll<io::Result<()>> {
        if !self.wait() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.lock();
        if !anew && state.written == 0 {
            return Poll::Ready(Ok(()));
        }
        while state.written < state.bytes.len() {
            state.written += ready!(Pin::new(&mut *io).poll_write(cx, &state.bytes[state.written..]))?;
        }
        (state.bytes, state.written) = (Vec::new(), 0);
        self.waits.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The answer comes. `clear`: nothing of the one before is still to be written, so what waits goes first.
    pub(super) fn end(self, clear: bool) {
        let mut state = self.0.lock();
        state.open = false;
        if !clear && state.written == 0 && !state.bytes.is_empty() {
            state.bytes = Vec::new();
            self.0.waits.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn written(interims: &Interims, anew: bool) -> String {
        let (mut out, mut cx) = (Vec::new(), Context::from_waker(Waker::noop()));
        assert!(interims.poll_write(&mut out, &mut cx, anew).is_ready());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_hint_goes_to_whom_it_is_for_and_without_what_is_for_another_hop() {
        let interims = Arc::new(Interims::default());
        let turn = interims.begin(&mut Request::new(()));
        let mut fields = HeaderMap::new();
        fields.insert("link", "</a.css>; rel=preload".parse().unwrap());
        fields.insert("connection", "x-own".parse().unwrap());
        fields.insert("x-own", "1".parse().unwrap());
        interims.add(1, StatusCode::CONTINUE, &fields);
        assert!(!interims.wait());
        interims.add(1, StatusCode::EARLY_HINTS, &fields);
        assert_eq!(written(&interims, false), "", "an answer is half written");
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
        assert_eq!(written(&interims, true), expected);
        assert_eq!(written(&interims, true), "", "once");
        turn.end(true);
        interims.add(1, StatusCode::EARLY_HINTS, &fields);
        assert!(!interims.wait(), "it was answered");
    }

    #[test]
    fn hints_that_come_too_late_or_are_too_many_are_left_out() {
        let interims = Arc::new(Interims::default());
        let turn = interims.begin(&mut Request::new(()));
        let fields = HeaderMap::new();
        interims.add(1, StatusCode::PROCESSING, &fields);
        turn.end(false);
        assert!(!interims.wait(), "the answer before is still being written");
        let turn = interims.begin(&mut Request::new(()));
        interims.add(1, StatusCode::PROCESSING, &fields);
        assert!(!interims.wait(), "to the request before");
        for _ in 0..MOST {
            interims.add(2, StatusCode::PROCESSING, &fields);
        }
        turn.end(true);
        let length = written(&interims, true).len();
        assert!(length <= MOST && length > MOST / 2, "{length}");
    }
}
