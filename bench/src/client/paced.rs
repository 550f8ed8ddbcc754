//! Requests of HTTP/1.1 that are due at a fixed rate, whether or not those before were answered.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use super::meter::Meter;
use super::ping::wait;
use super::request::Requester;
use crate::http1;
use crate::metric::{Metric, Sample};

/// How long connections may take to be up, and how long after the end answers are waited for.
const GRACE: Duration = Duration::from_secs(5);

const TIMER: Token = Token(usize::MAX);

/// When requests are due.
struct Schedule {
    begun: Instant,
    rate: f64,
    made: u32,
}

/// The connections, and the requests that wait for one.
struct Pacer {
    requesters: Vec<Requester>,
    request: Vec<u8>,
    idle: VecDeque<usize>,
    waiting: VecDeque<Instant>,
    poll: Poll,
    events: Events,
}

/// Measures: a request's latency is from when it was due, so that it has the wait for those before it.
pub(super) fn run(target: SocketAddr, mut meter: Meter, connections: usize, rate: f64) -> Result<Sample> {
    ensure!(rate.is_finite() && rate >= 1.0, "a rate of {rate} requests a second");
    let mut pacer = Pacer::connect(target, connections)?;
    // Timers of epoll_wait() have milliseconds only.
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let fd = timer.as_fd().as_raw_fd();
    pacer.poll.registry().register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
    let mut schedule = Schedule { begun: Instant::now(), rate, made: 0 };
    meter.begin();
    while !meter.is_over(Instant::now(), true)? {
        let now = Instant::now();
        while schedule.next() <= now {
            pacer.waiting.push_back(schedule.next());
            schedule.made += 1;
        }
        pacer.send()?;
        let left = schedule.next().saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        timer.set(Expiration::OneShot(left.into()), TimerSetTimeFlags::empty())?;
        pacer.answers(&mut meter)?;
    }
    // Those that were due in time and are late count as well.
    let deadline = Instant::now() + GRACE;
    while !pacer.is_done() && Instant::now() < deadline {
        pacer.send()?;
        pacer.answers(&mut meter)?;
    }
    let unanswered = pacer.give_up(&mut meter);
    let mut sample = meter.messages(unanswered)?;
    sample.insert(Metric::Offered, rate);
    Ok(sample)
}

// === impl Schedule ===

impl Schedule {
    /// When the next request is due.
    fn next(&self) -> Instant {
        self.begun + Duration::from_secs_f64(f64::from(self.made) / self.rate)
    }
}

// === impl Pacer ===

impl Pacer {
    /// Connections are up when a request was answered on each.
    fn connect(target: SocketAddr, connections: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let begin = |index| Requester::begin(target, &poll, Token(index));
        let mut pacer = Self {
            requesters: (0..connections).map(begin).collect::<Result<_, _>>()?,
            request: http1::request(target.port(), None),
            idle: VecDeque::with_capacity(connections),
            waiting: VecDeque::new(),
            poll,
            events: Events::with_capacity(connections.clamp(1, 1024)),
        };
        let deadline = Instant::now() + GRACE;
        while !pacer.is_done() {
            ensure!(Instant::now() < deadline, "connections are not answered");
            pacer.progress(|_, _| ())?;
        }
        Ok(pacer)
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.idle.len() == self.requesters.len()
    }

    /// Sends what waits on the connections that are idle, the longest idle first.
    fn send(&mut self) -> Result<()> {
        while !self.waiting.is_empty()
            && let Some(index) = self.idle.pop_front()
            && let Some(due) = self.waiting.pop_front()
        {
            self.requesters[index].again(due, &self.request).context("a connection broke")?;
        }
        Ok(())
    }

    fn answers(&mut self, meter: &mut Meter) -> Result<()> {
        self.progress(|due, latency| meter.record_due(due, latency))
    }

    /// Waits for events; tells of each answer when its request was due and how long ago that is.
    fn progress(&mut self, mut answered: impl FnMut(Instant, Duration)) -> Result<()> {
        wait(&mut self.poll, &mut self.events)?;
        for event in self.events.iter().filter(|event| event.token() != TIMER) {
            let index = event.token().0;
            let requester = &mut self.requesters[index];
            if requester.progress(&self.request).context("a connection broke")? {
                answered(requester.since, requester.since.elapsed());
                self.idle.push_back(index);
            }
        }
        Ok(())
    }

    /// What is unanswered counts as having taken until now; how much it is.
    fn give_up(self, meter: &mut Meter) -> usize {
        let under_way = (0..self.requesters.len()).filter(|index| !self.idle.contains(index));
        let since: Vec<Instant> =
            under_way.map(|index| self.requesters[index].since).chain(self.waiting.iter().copied()).collect();
        for &due in &since {
            meter.record_due(due, due.elapsed());
        }
        since.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_and_do_not_drift() {
        let schedule = |made| Schedule { begun: Instant::now(), rate: 3.0, made };
        let after = |made| {
            let schedule = schedule(made);
            (schedule.next() - schedule.begun).as_micros()
        };
        assert_eq!([0, 1, 2, 3, 3_000_000].map(after), [0, 333_333, 666_666, 1_000_000, 1_000_000_000_000]);
    }
}
