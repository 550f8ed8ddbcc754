//! Runs both directions of an end, waiting as its driver does.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::endpoint::{Endpoint, Failure, Outcome};
use crate::fault::Fault;
use crate::plan::Driver;
use crate::receive::Receiver;
use crate::send::Sender;

/// Runs an end to its end, good or bad; what was bad is kept in the endpoint.
pub(crate) fn drive(end: &Endpoint, fault: Option<Fault>) {
    let driver = end.side().driver;
    let blocking = matches!(driver, Driver::Blocking | Driver::ConnectTimeout);
    let prompt = end.socket.set_nodelay(end.side().prompt);
    if let Err(error) = prompt.and_then(|()| end.socket.set_nonblocking(!blocking)) {
        return end.fail(format!("set socket options: {error}"));
    }
    let (mut sender, mut receiver) = (Sender::new(end, fault), Receiver::new(end, blocking));
    if !blocking {
        let turns = if let Driver::Turning(reads) = driver { reads } else { u64::MAX };
        match alternate(end, &mut sender, &mut receiver, turns) {
            Ok(true) => return,
            Ok(false) => (),
            Err(failure) => return end.fail(failure),
        }
        if let Err(error) = end.socket.set_nonblocking(false) {
            return end.fail(format!("clear O_NONBLOCK: {error}"));
        }
        receiver.blocking = true;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| alone(end, || sender.step()));
        alone(end, || receiver.step());
    });
}

/// Both directions in one thread, until all is done (true) or the reads are at which it turns (false).
fn alternate(
    end: &Endpoint,
    sender: &mut Sender<'_>,
    receiver: &mut Receiver<'_>,
    turns: u64,
) -> Result<bool, Failure> {
    let waiter = Waiter::new(end).map_err(|error| format!("epoll: {error}"))?;
    let (mut reads, mut writes) = (Outcome::Moved, Outcome::Moved);
    loop {
        // Only a socket that is said to be ready is tried again, so that a wake-up that is missing is missed.
        if !matches!(reads, Outcome::Blocked | Outcome::Ended) {
            reads = receiver.step()?;
        }
        if !matches!(writes, Outcome::Blocked | Outcome::Ended) {
            writes = sender.step()?;
        }
        if end.is_over() || (reads, writes) == (Outcome::Ended, Outcome::Ended) {
            return Ok(true);
        }
        if receiver.reads >= turns {
            return Ok(false);
        }
        let awaits = match writes {
            Outcome::Awaiting(bytes) => end.received() < bytes,
            other => other != Outcome::Moved,
        };
        if reads == Outcome::Moved || !awaits {
            continue;
        }
        let pause = if let Outcome::Paused(until) = reads { Some(until) } else { None };
        let (readable, writable) = waiter
            .wait(end, reads == Outcome::Blocked, writes == Outcome::Blocked, pause)
            .map_err(|error| format!("wait: {error}"))?;
        if readable && reads == Outcome::Blocked {
            reads = Outcome::Moved;
        }
        if writable && writes == Outcome::Blocked {
            writes = Outcome::Moved;
        }
    }
}

/// One direction in a thread of its own.
#[allow(clippy::disallowed_methods, reason = "a reader that stops for a while does nothing else")]
fn alone(end: &Endpoint, mut step: impl FnMut() -> Result<Outcome, Failure>) {
    loop {
        match step() {
            Ok(Outcome::Moved) => (),
            Ok(Outcome::Ended) => return,
            Ok(Outcome::Paused(until)) => std::thread::sleep(until.saturating_duration_since(Instant::now())),
            Ok(Outcome::Awaiting(bytes)) => end.await_received(bytes),
            Ok(Outcome::Blocked) => return end.fail("EAGAIN from a blocking socket".to_owned()),
            Err(failure) => return end.fail(failure),
        }
    }
}

/// What a non-blocking driver waits with.
enum Waiter {
    Edge(Epoll),
    Level(Epoll),
    Poll,
}

impl Waiter {
    fn new(end: &Endpoint) -> nix::Result<Self> {
        let epoll = |flags| {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            epoll.add(&end.socket, EpollEvent::new(flags, 0))?;
            Ok(epoll)
        };
        Ok(match end.side().driver {
            Driver::EpollEdge => {
                let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                Self::Edge(epoll(both | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET)?)
            }
            Driver::EpollLevel => Self::Level(epoll(EpollFlags::empty())?),
            _ => Self::Poll,
        })
    }

    /// Waits, for ever unless there is a pause to end, and tells what is ready to be read and to be written.
    fn wait(
        &self,
        end: &Endpoint,
        read: bool,
        write: bool,
        pause: Option<Instant>,
    ) -> nix::Result<(bool, bool)> {
        // A millisecond more, since both round down.
        let left = pause.map(|until| {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            u16::try_from(left.as_millis()).unwrap_or(u16::MAX)
        });
        let epoll = match self {
            Self::Edge(epoll) => epoll,
            Self::Level(epoll) => {
                let mut wanted = EpollFlags::empty();
                wanted.set(EpollFlags::EPOLLIN, read);
                wanted.set(EpollFlags::EPOLLOUT, write);
                epoll.modify(&end.socket, &mut EpollEvent::new(wanted, 0))?;
                epoll
            }
            Self::Poll => {
                let mut wanted = PollFlags::empty();
                wanted.set(PollFlags::POLLIN, read);
                wanted.set(PollFlags::POLLOUT, write);
                let mut polled = [PollFd::new(end.socket.as_fd(), wanted)];
                poll(&mut polled, left.map_or(PollTimeout::NONE, PollTimeout::from))?;
                let seen = polled[0].revents().unwrap_or(PollFlags::empty());
                let broken = seen.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
                return Ok((
                    broken || seen.contains(PollFlags::POLLIN),
                    broken || seen.contains(PollFlags::POLLOUT),
                ));
            }
        };
        let mut events = [EpollEvent::empty()];
        let count = epoll.wait(&mut events, left.map_or(EpollTimeout::NONE, EpollTimeout::from))?;
        let seen = if count == 0 { EpollFlags::empty() } else { events[0].events() };
        let broken = seen.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        let read = seen.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
        Ok((broken || read, broken || seen.contains(EpollFlags::EPOLLOUT)))
    }
}
