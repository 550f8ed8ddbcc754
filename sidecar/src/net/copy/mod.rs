//! Copying bytes both ways between two sockets, with half-close.
//!
//! A buffer is only held while bytes wait for a receiver that has no room: otherwise each thread's scratch buffer
//! serves all its connections, so that an idle connection costs no buffer at all. The copy is polled by hand: a message
//! wakes the connection's task, and what it costs then is what the proxy adds.

mod settle;
mod way;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use self::way::{Fault, Way};
use super::sys;
use crate::seldom::Seldom;

pub use self::settle::settle;
pub(super) use self::way::read_some;

/// An idle timeout is looked after so many times within its length; it ends a connection late by one part at most.
const IDLE_PARTS: u32 = 8;

/// How a copy ended.
#[derive(Debug)]
pub enum End<T> {
    /// Both sides closed.
    Finished,
    /// Nothing was sent either way for the idle timeout.
    Idle,
    /// The first socket failed.
    First(io::Error),
    /// The second socket failed.
    Second(io::Error),
    /// What was to end it came first, and says why.
    Told(T),
}

/// Bytes of both directions, counted as they are handed to the receiver's socket.
#[derive(Clone, Copy, Debug)]
pub struct Meters<'a> {
    /// From the first socket to the second.
    pub forth: &'a AtomicU64,
    /// From the second socket to the first.
    pub back: &'a AtomicU64,
}

/// Told of each read that was handed on, whichever way.
pub trait Observer {
    /// Once a message; cheap.
    fn message(&self);

    /// True when what is written to `socket` may skip the TCP stack, which takes smaller pieces.
    fn is_bypassed(&self, socket: &TcpStream) -> bool;

    /// Asked now and then while `socket` takes no more: true when its peer will never read again, and TCP does not say
    /// so.
    fn is_abandoned(&self, socket: &TcpStream) -> bool;
}

/// Told as a direction ends: its reader has seen the end, and everything was handed to its writer.
#[derive(Debug, Default)]
pub struct Progress {
    /// From the first socket to the second.
    pub forth: Notify,
    /// From the second socket to the first.
    pub back: Notify,
}

/// Both directions, and how each ended.
struct Copying<'a> {
    forth: Way<'a>,
    back: Way<'a>,
    forth_end: Ended,
    back_end: Ended,
    back_first: bool,
}

/// How a direction ended.
#[derive(Default)]
enum Ended {
    #[default]
    NotYet,
    /// By its FIN.
    Finished,
    By(Broken),
}

/// Which socket failed.
enum Broken {
    First(io::Error),
    Second(io::Error),
}

/// Copies until both directions are closed, one fails, nothing moves for `idle`, or `told` resolves. After a failure the
/// caller resets what is left. Not cancel safe: bytes that were read and not yet written are lost with the future, so
/// it is only dropped together with both sockets.
pub async fn bidirectional<T>(
    (first, second): (&TcpStream, &TcpStream),
    meters: Meters<'_>,
    progress: &Progress,
    observer: &(dyn Observer + Sync),
    idle: Duration,
    told: Pin<&mut impl Future<Output = T>>,
) -> End<T> {
    // What moved, and what waits in the kernel for a slow receiver, which moves without us.
    let position = || {
        let bytes = meters.forth.load(Ordering::Relaxed) + meters.back.load(Ordering::Relaxed);
        (bytes, sys::unacknowledged(first) + sys::unacknowledged(second))
    };
    let quiet = async {
        // At first nothing has moved and nothing waits.
        let (mut last, mut parts) = ((0, 0), 0);
        while parts < IDLE_PARTS {
            sleep(idle / IDLE_PARTS).await;
            let now = position();
            parts = if now == last { parts + 1 } else { 0 };
            last = now;
        }
    };
    let seldom = async {
        tokio::select! {
            () = quiet => End::Idle,
            reason = told => End::Told(reason),
        }
    };
    let (first_reset, second_reset) = (AtomicBool::new(false), AtomicBool::new(false));
    let first = way::End { stream: first, reset: &first_reset };
    let second = way::End { stream: second, reset: &second_reset };
    let mut copying = Copying {
        forth: Way::new(first, second, meters.forth, &progress.forth, observer),
        back: Way::new(second, first, meters.back, &progress.back, observer),
        forth_end: Ended::NotYet,
        back_end: Ended::NotYet,
        back_first: true,
    };
    let mut seldom = std::pin::pin!(Seldom::new(seldom));
    poll_fn(|cx| {
        // First: endless bytes must not keep an end from being heard of.
        if let Poll::Ready(end) = seldom.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        copying.poll(cx).map(|broken| match broken {
            None => End::Finished,
            Some(Broken::First(error)) => End::First(error),
            Some(Broken::Second(error)) => End::Second(error),
        })
    })
    .await
}

impl Copying<'_> {
    /// The two take turns in being first: what tokio lets a task do at once may be used up by one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Broken>> {
        self.back_first = !self.back_first;
        let order = if self.back_first {
            [Self::poll_back, Self::poll_forth]
        } else {
            [Self::poll_forth, Self::poll_back]
        };
        for way in order {
            if let Err(broken) = way(self, cx) {
                return Poll::Ready(Some(broken));
            }
        }
        if matches!(self.forth_end, Ended::NotYet) || matches!(self.back_end, Ended::NotYet) {
            return Poll::Pending;
        }
        let ends = [std::mem::take(&mut self.forth_end), std::mem::take(&mut self.back_end)];
        Poll::Ready(ends.into_iter().find_map(|end| match end {
            Ended::By(broken) => Some(broken),
            Ended::NotYet | Ended::Finished => None,
        }))
    }

    /// A reader that failed has nothing more to give or take. A writer that failed may still have been answered: what its
    /// other direction holds is delivered first.
    fn poll_forth(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if matches!(self.forth_end, Ended::NotYet) {
            self.forth_end = match self.forth.poll(cx) {
                Poll::Pending => Ended::NotYet,
                Poll::Ready(Ok(())) => Ended::Finished,
                Poll::Ready(Err(Fault::Write(error))) => Ended::By(Broken::Second(error)),
                Poll::Ready(Err(Fault::Read(error))) => return Err(Broken::First(error)),
            };
        }
        Ok(())
    }

    /// The same.
    fn poll_back(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if matches!(self.back_end, Ended::NotYet) {
            self.back_end = match self.back.poll(cx) {
                Poll::Pending => Ended::NotYet,
                Poll::Ready(Ok(())) => Ended::Finished,
                Poll::Ready(Err(Fault::Write(error))) => Ended::By(Broken::First(error)),
                Poll::Ready(Err(Fault::Read(error))) => return Err(Broken::Second(error)),
            };
        }
        Ok(())
    }
}
