//! Copying bytes both ways between two sockets, with half-close.
//!
//! A buffer is only held while bytes wait for a receiver that has no room: otherwise each thread's scratch buffer
//! serves all its connections, so that an idle connection costs no buffer at all.

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};

use super::sys;

/// What one read takes at most, and so what waits in memory at most for each direction.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// How a copy ended.
#[derive(Debug)]
pub enum End {
    /// Both sides closed.
    Finished,
    /// Nothing was sent either way for the idle timeout.
    Idle,
    /// The first socket failed.
    First(io::Error),
    /// The second socket failed.
    Second(io::Error),
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
}

/// Told as a direction ends: its reader has seen the end, and everything was handed to its writer.
#[derive(Debug, Default)]
pub struct Progress {
    /// From the first socket to the second.
    pub forth: Notify,
    /// From the second socket to the first.
    pub back: Notify,
}

/// When bytes last moved.
struct Activity<'a> {
    observer: &'a (dyn Observer + Sync),
    start: Instant,
    /// Milliseconds since `start`: what an idle timeout needs, without a lock.
    last: AtomicU64,
}

/// A socket that a write has found reset. What was received before can still be read; but the end that is then read is
/// no FIN of the peer, and must not be passed on as one.
#[derive(Default)]
struct Reset(AtomicBool);

enum Fault {
    Read(io::Error),
    Write(io::Error),
}

enum Step {
    Again,
    End,
    Left(Vec<u8>),
}

/// Copies until both directions are closed, one fails, or nothing moves for `idle`. After a failure the caller resets
/// what is left. Not cancel safe: bytes that were read and not yet written are lost with the future, so it is only
/// dropped together with both sockets.
pub async fn bidirectional(
    first: &TcpStream,
    second: &TcpStream,
    meters: Meters<'_>,
    progress: &Progress,
    observer: &(dyn Observer + Sync),
    idle: Duration,
) -> End {
    let active = &Activity::new(observer);
    let (first_reset, second_reset) = (Reset::default(), Reset::default());
    let forth =
        one_way((first, &first_reset), (second, &second_reset), meters.forth, &progress.forth, active);
    let back = one_way((second, &second_reset), (first, &first_reset), meters.back, &progress.back, active);
    let both = async {
        // A reader that failed has nothing more to give or take. A writer that failed may still have been answered:
        // what its other direction holds is delivered first.
        let forth = async {
            match forth.await {
                Ok(()) => Ok(None),
                Err(Fault::Read(error)) => Err(End::First(error)),
                Err(Fault::Write(error)) => Ok(Some(End::Second(error))),
            }
        };
        let back = async {
            match back.await {
                Ok(()) => Ok(None),
                Err(Fault::Read(error)) => Err(End::Second(error)),
                Err(Fault::Write(error)) => Ok(Some(End::First(error))),
            }
        };
        match tokio::try_join!(forth, back) {
            Ok((forth, back)) => forth.or(back).unwrap_or(End::Finished),
            Err(end) => end,
        }
    };
    // What waits in the kernel for a slow receiver moves without us.
    let waiting_now = || sys::unacknowledged(first) + sys::unacknowledged(second);
    let quiet = async {
        let mut waiting = waiting_now();
        loop {
            let deadline = active.last() + idle;
            if deadline <= Instant::now() {
                let left = waiting_now();
                if left == waiting {
                    return End::Idle;
                }
                waiting = left;
                active.now();
                continue;
            }
            sleep_until(deadline).await;
        }
    };
    tokio::select! {
        end = both => end,
        end = quiet => end,
    }
}

impl<'a> Activity<'a> {
    fn new(observer: &'a (dyn Observer + Sync)) -> Self {
        Self { observer, start: Instant::now(), last: AtomicU64::new(0) }
    }

    fn message(&self) {
        self.now();
        self.observer.message();
    }

    fn now(&self) {
        // A connection is not open for the 584 million years that overflow takes.
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

impl Reset {
    /// After EPIPE alone the peer's FIN had come before: that end was a true one (tcp(7)).
    fn note(&self, fault: &Fault) {
        if matches!(fault, Fault::Write(error) if error.kind() != io::ErrorKind::BrokenPipe) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

async fn one_way(
    (from, from_reset): (&TcpStream, &Reset),
    (to, to_reset): (&TcpStream, &Reset),
    meter: &AtomicU64,
    done: &Notify,
    active: &Activity<'_>,
) -> Result<(), Fault> {
    loop {
        from.readable().await.map_err(Fault::Read)?;
        let moved = match step(from, to, meter) {
            Ok(Step::Again) => Ok(()),
            Ok(Step::Left(bytes)) => write_all(to, &bytes, meter, active).await,
            Ok(Step::End) => break,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = moved {
            to_reset.note(&fault);
            return Err(fault);
        }
        active.message();
        // One connection with endless bytes does not starve the others of its thread.
        consume_budget().await;
    }
    if from_reset.0.load(Ordering::Relaxed) {
        return Err(Fault::Read(io::ErrorKind::ConnectionReset.into()));
    }
    match SockRef::from(to).shutdown(Shutdown::Write) {
        Ok(()) => {}
        // The receiver is gone already; the other direction says how.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
        Err(error) => return Err(Fault::Write(error)),
    }
    done.notify_one();
    Ok(())
}

/// One read, and as much of it written as the receiver takes.
fn step(from: &TcpStream, to: &TcpStream, meter: &AtomicU64) -> Result<Step, Fault> {
    SCRATCH.with_borrow_mut(|scratch| {
        let Some(read) = read_some(from, scratch).map_err(Fault::Read)? else { return Ok(Step::Again) };
        if read == 0 {
            return Ok(Step::End);
        }
        let written = write_some(to, &scratch[..read], meter)?;
        Ok(if written == read { Step::Again } else { Step::Left(scratch[written..read].to_vec()) })
    })
}

/// `None`: nothing is there. A read that does not fill the buffer has taken all, and spares the one that would say so
/// (epoll(7), question 9).
fn read_some(from: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut read = None;
    let result = from.try_io(Interest::READABLE, || {
        let taken = (&*SockRef::from(from)).read(buffer)?;
        read = Some(taken);
        // tokio then waits for the next event.
        if taken > 0 && taken < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(read),
    }
}

async fn write_all(
    to: &TcpStream,
    mut bytes: &[u8],
    meter: &AtomicU64,
    active: &Activity<'_>,
) -> Result<(), Fault> {
    while !bytes.is_empty() {
        to.writable().await.map_err(Fault::Write)?;
        let written = write_some(to, bytes, meter)?;
        bytes = &bytes[written..];
        if written > 0 {
            active.now();
        }
    }
    Ok(())
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
    meter.fetch_add(written as u64, Ordering::Relaxed);
    Ok(written)
}

/// How long a receiver may take to acknowledge some of what waits for it.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
const SETTLE_POLL: Duration = Duration::from_millis(2);

/// Waits until the peer has acknowledged all that was written, as long as it goes on doing so. To be called before a
/// reset, which would take back what is still on its way: without a proxy, the peer would have had it before.
pub async fn settle(stream: &TcpStream) {
    let mut waiting = sys::unacknowledged(stream);
    let mut since = Instant::now();
    while waiting > 0 && since.elapsed() < SETTLE_PATIENCE {
        tokio::time::sleep(SETTLE_POLL).await;
        let now = sys::unacknowledged(stream);
        if now < waiting {
            since = Instant::now();
        }
        waiting = now;
    }
}
