//! One end of a connection, as both its directions and the watchdog see it.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::plan::{End, Moment, Plan, Side};
use crate::stamp::{Direction, Stream};

/// A connected socket and how far it is.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub socket: TcpStream,
    pub seed: u64,
    pub plan: Plan,
    /// The direction in which it sends: who it is.
    pub role: Direction,
    sent: AtomicU64,
    received: AtomicU64,
    /// No more is sent or received: it broke off, or failed.
    over: AtomicBool,
    failure: OnceLock<String>,
    start: Instant,
    /// Milliseconds after `start` at which bytes last moved.
    last: AtomicU64,
    lock: Mutex<()>,
    changed: Condvar,
}

/// What a step of one direction came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Bytes moved, or another step may.
    Moved,
    /// The socket is not ready.
    Blocked,
    /// Nothing to do before this moment.
    Paused(Instant),
    /// Nothing to do before so much is received.
    Awaiting(u64),
    /// All done.
    Ended,
}

/// What went wrong with one direction.
pub(crate) type Failure = String;

impl Endpoint {
    pub(crate) fn new(socket: TcpStream, seed: u64, plan: Plan, role: Direction) -> Self {
        Self {
            socket,
            seed,
            plan,
            role,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            over: AtomicBool::new(false),
            failure: OnceLock::new(),
            start: Instant::now(),
            last: AtomicU64::new(0),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    /// Its own half of the plan.
    pub(crate) fn side(&self) -> &Side {
        self.plan.sender(self.role)
    }

    pub(crate) fn outgoing(&self) -> Stream {
        self.stream(self.role)
    }

    pub(crate) fn incoming(&self) -> Stream {
        let from = if self.role == Direction::Up { Direction::Down } else { Direction::Up };
        self.stream(from)
    }

    fn stream(&self, direction: Direction) -> Stream {
        Stream { seed: self.seed, connection: self.plan.connection, direction }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(crate) fn has_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::AcqRel);
        self.moved();
    }

    pub(crate) fn has_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::AcqRel);
        self.moved();
        self.tell();
    }

    /// Notes that it is alive.
    pub(crate) fn moved(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Whether the moment has come at which it breaks off.
    pub(crate) fn is_to_break(&self) -> bool {
        let (End::Reset(moment) | End::Abandon(moment)) = self.side().end else { return false };
        match moment {
            Moment::Sent(bytes) => self.sent() >= bytes,
            Moment::Received(bytes) => self.received() >= bytes,
        }
    }

    /// The limit of what it sends or receives before it must look whether to break off.
    pub(crate) fn until_break(&self, moment: fn(u64) -> Moment, now: u64) -> u64 {
        match self.side().end {
            End::Reset(at @ (Moment::Sent(bytes) | Moment::Received(bytes)))
            | End::Abandon(at @ (Moment::Sent(bytes) | Moment::Received(bytes)))
                if at == moment(bytes) =>
            {
                bytes.saturating_sub(now).max(1)
            }
            _ => u64::MAX,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Ends both directions; a thread that waits in recv() is woken, and the other side notices nothing of that.
    pub(crate) fn break_off(&self) {
        self.over.store(true, Ordering::Release);
        // Fails when the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Read);
        self.tell();
    }

    /// Ends both directions because of a failure, of which the first is kept.
    pub(crate) fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
        self.over.store(true, Ordering::Release);
        let _ = self.socket.shutdown(Shutdown::Both);
        self.tell();
    }

    /// What went wrong, and with whom.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.get().map(|failure| {
            let role = if self.role == Direction::Up { "client" } else { "server" };
            let (side, other) = match self.role {
                Direction::Up => (&self.plan.client, &self.plan.server),
                Direction::Down => (&self.plan.server, &self.plan.client),
            };
            let number = self.plan.connection;
            format!(
                "connection {number}, {role} ({}; sent {} of {}, received {} of {}; its peer {}): {failure}",
                side.behaviours(),
                self.sent(),
                side.outgoing(),
                self.received(),
                side.incoming,
                other.behaviours(),
            )
        })
    }

    /// Waits until so much is received, or it is over.
    pub(crate) fn await_received(&self, bytes: u64) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |(): &mut ()| self.received() < bytes && !self.is_over();
        drop(self.changed.wait_while(guard, waiting));
    }

    /// How long nothing has moved.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    /// What the kernel says of the socket now.
    pub(crate) fn state(&self) -> String {
        let mut byte = [0];
        let read = recv(self.socket.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        let read = match read {
            Ok(0) => "the end".to_owned(),
            Ok(_) => "bytes".to_owned(),
            Err(Errno::EAGAIN) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        format!("a read now finds {read}; /proc/net/tcp has {}", self.line().unwrap_or_default())
    }

    /// Its line in proc(5), /proc/net/tcp: addresses, state, tx_queue:rx_queue, timers.
    fn line(&self) -> Option<String> {
        let (own, peer) = (self.socket.local_addr().ok()?.port(), self.socket.peer_addr().ok()?.port());
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let (own, peer) = (format!(":{own:04X} "), format!(":{peer:04X} "));
        let lines: Vec<_> = table.lines().map(str::trim).filter(|line| line.contains(&own)).collect();
        // A captured client's peer is told as it dialled, not as the table has it.
        lines.iter().find(|line| line.contains(&peer)).or(lines.first()).map(ToString::to_string)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn tell(&self) {
        // The lock, so that nobody misses this between looking and waiting.
        drop(self.lock.lock());
        self.changed.notify_all();
    }
}

impl Side {
    fn behaviours(&self) -> String {
        format!("{:?}, {:?}, {:?}, {:?}", self.driver, self.writes, self.reads, self.end)
    }
}
