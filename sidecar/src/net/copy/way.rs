//! One direction of a copy: read, write, and keep what the receiver has no room for.

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use super::Observer;

/// What one read takes at most, and so what waits in memory at most for each direction. Measured: bulk gains by half from
/// 64 KiB to this, and no more beyond.
const SCRATCH_BYTES: usize = 256 * 1024;
/// The same for a receiver that gets it past the TCP stack: what an ordinary receive buffer takes when it is empty (`tcp_rmem`,
/// tcp(7)). Measured: half of that carries a third less. What does not fit goes by TCP.
const BYPASS_BYTES: usize = 128 * 1024;

/// How many messages one direction moves before others have their turn.
const ROUNDS: u32 = 16;
/// How often the reader of a socket that takes no more is looked after.
const HELD_POLL: Duration = Duration::from_millis(250);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// A direction.
pub(super) struct Way<'a> {
    pub(super) from: End<'a>,
    pub(super) to: End<'a>,
    pub(super) meter: &'a AtomicU64,
    pub(super) done: &'a Notify,
    pub(super) observer: &'a (dyn Observer + Sync),
    /// What was read and the receiver had no room for; empty most of the time.
    left: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// While it waits: when to look after the receiver.
    held: Option<Pin<Box<Sleep>>>,
}

/// A socket of the copy.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) stream: &'a TcpStream,
    /// A write has found it reset. What was received before can still be read; but the end that is then read is no FIN of
    /// the peer, and must not be passed on as one.
    pub(super) reset: &'a AtomicBool,
}

/// What ended a direction before its time.
pub(super) enum Fault {
    Read(io::Error),
    Write(io::Error),
}

enum Step {
    Nothing,
    Moved,
    End,
    Left(Vec<u8>),
}

impl<'a> Way<'a> {
    pub(super) fn new(
        from: End<'a>,
        to: End<'a>,
        meter: &'a AtomicU64,
        done: &'a Notify,
        observer: &'a (dyn Observer + Sync),
    ) -> Self {
        Self { from, to, meter, done, observer, left: Vec::new(), written: 0, held: None }
    }

    /// Goes on as far as both sockets let it. Ready when the end was read and passed on, or something failed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        for _ in 0..ROUNDS {
            ready!(self.poll_left(cx))?;
            // Nothing is read for a receiver that has no room: it would have to be kept.
            ready!(self.to.stream.poll_write_ready(cx)).map_err(|error| self.failed(Fault::Write(error)))?;
            ready!(self.from.stream.poll_read_ready(cx)).map_err(Fault::Read)?;
            let most = if self.observer.is_bypassed(self.to.stream) { BYPASS_BYTES } else { SCRATCH_BYTES };
            match step(self.from.stream, self.to.stream, self.meter, most) {
                Ok(Step::Nothing) => {}
                Ok(Step::Moved) => self.observer.message(),
                Ok(Step::Left(bytes)) => {
                    self.observer.message();
                    (self.left, self.written) = (bytes, 0);
                }
                Ok(Step::End) => return Poll::Ready(self.end()),
                Err(fault) => return Poll::Ready(Err(self.failed(fault))),
            }
        }
        // Endless bytes one way must not starve the other, nor the other connections of the thread.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what was left.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while self.written < self.left.len() {
            let ready = match self.to.stream.poll_write_ready(cx) {
                Poll::Ready(ready) => ready,
                Poll::Pending => ready!(self.poll_held(cx)),
            };
            ready.map_err(|error| self.failed(Fault::Write(error)))?;
            let result = write_some(self.to.stream, &self.left[self.written..], self.meter);
            self.written += result.map_err(|fault| self.failed(fault))?;
        }
        // Its memory goes as well: an idle connection holds no buffer.
        self.left = Vec::new();
        self.written = 0;
        self.held = None;
        Poll::Ready(Ok(()))
    }

    /// Pending while the receiver may still read; an error when it never will.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let held = self.held.get_or_insert_with(|| Box::pin(sleep(HELD_POLL)));
            ready!(held.as_mut().poll(cx));
            if self.observer.is_abandoned(self.to.stream) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            self.held = None;
        }
    }

    fn end(&self) -> Result<(), Fault> {
        if self.from.reset.load(Ordering::Relaxed) {
            return Err(Fault::Read(io::ErrorKind::ConnectionReset.into()));
        }
        match SockRef::from(self.to.stream).shutdown(Shutdown::Write) {
            Ok(()) => {}
            // The receiver is gone already; the other direction says how.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => return Err(Fault::Write(error)),
        }
        self.done.notify_one();
        Ok(())
    }

    /// After EPIPE alone the peer's FIN had come before: that end was a true one (tcp(7)).
    fn failed(&self, fault: Fault) -> Fault {
        if matches!(&fault, Fault::Write(error) if error.kind() != io::ErrorKind::BrokenPipe) {
            self.to.reset.store(true, Ordering::Relaxed);
        }
        fault
    }
}

/// One read, and as much of it written as the receiver takes.
fn step(from: &TcpStream, to: &TcpStream, meter: &AtomicU64, most: usize) -> Result<Step, Fault> {
    SCRATCH.with_borrow_mut(|scratch| {
        let receive = || (&*SockRef::from(from)).read(&mut scratch[..most]);
        let Some(read) = read_some(from, most, receive).map_err(Fault::Read)? else {
            return Ok(Step::Nothing);
        };
        if read == 0 {
            return Ok(Step::End);
        }
        let written = write_some(to, &scratch[..read], meter)?;
        Ok(if written == read { Step::Moved } else { Step::Left(scratch[written..read].to_vec()) })
    })
}

/// Reads by `receive`, which has room for so many bytes. `None`: nothing is there. A read that does not fill the room has taken
/// all, and spares the one that would say so (epoll(7), question 9).
pub(crate) fn read_some(
    from: &TcpStream,
    room: usize,
    receive: impl FnOnce() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    let mut read = None;
    let result = from.try_io(Interest::READABLE, || {
        let taken = receive()?;
        read = Some(taken);
        // tokio then waits for the next event.
        if taken > 0 && taken < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(read),
    }
}

/// Writes until the receiver takes no more.
fn write_some(to: &TcpStream, bytes: &[u8], meter: &AtomicU64) -> Result<usize, Fault> {
    let mut written = 0;
    while written < bytes.len() {
        match to.try_write(&bytes[written..]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(Fault::Write(error)),
        }
    }
    // Nobody else adds to it.
    meter.store(meter.load(Ordering::Relaxed) + written as u64, Ordering::Relaxed);
    Ok(written)
}
