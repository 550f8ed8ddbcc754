//! What happens on a connection: a function of the run's seed and the connection's number, so that both ends know it
//! and a failure can be repeated.

use std::time::Duration;

use crate::random::Random;
use crate::stamp::Direction;

/// The longest phase of one direction.
const MOST_BULK: u64 = 4 << 20;

/// The same where each byte costs a system call.
const MOST_TINY: u64 = 16 << 10;

/// A connection, as planned.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub connection: u32,
    pub client: Side,
    pub server: Side,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub driver: Driver,
    pub writes: Writes,
    pub reads: Reads,
    /// Whether it sets TCP_NODELAY, as most programs that care do.
    pub prompt: bool,
    /// What it sends, and when.
    pub steps: Vec<Step>,
    /// How many bytes come when all goes well.
    pub incoming: u64,
    /// Where it stops reading, and how long; in order.
    pub pauses: Vec<(u64, Duration)>,
    pub end: End,
}

/// It sends until `until` bytes are sent, but not before `after` bytes were received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub after: u64,
    pub until: u64,
}

/// How an end waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Driver {
    EpollEdge,
    EpollLevel,
    Poll,
    /// A thread for each direction.
    Blocking,
    /// Blocking after a non-blocking connect(), as Python's `create_connection` with a timeout.
    ConnectTimeout,
    /// Non-blocking with poll() for so many reads, then blocking.
    Turning(u64),
}

/// How an end sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writes {
    /// A byte, or a few.
    Tiny,
    Small,
    Medium,
    /// Up to 1 MiB.
    Large,
    /// writev() of several parts.
    Vectored,
    Sendfile,
}

/// How an end receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reads {
    Recv,
    /// Each read is peeked first.
    Peek,
    /// MSG_WAITALL, when blocking.
    WaitAll,
    Splice,
    /// recv() so many times, then splice().
    SpliceAfter(u64),
    /// recv() so many times, and then woken by many bytes only (`SO_RCVLOWAT`), when non-blocking.
    LowWaterAfter(u64),
}

/// How an end ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Shuts its direction down, then reads to the end.
    HalfClose,
    /// Closes once it has sent and received everything.
    Close,
    /// Resets at a moment (`SO_LINGER` with no time).
    Reset(Moment),
    /// Closes at a moment, with whatever was not read yet.
    Abandon(Moment),
}

/// When so many bytes were sent or received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    Sent(u64),
    Received(u64),
}

impl Plan {
    pub(crate) fn new(seed: u64, connection: u32) -> Self {
        let mut random = Random::new(seed, u64::from(connection));
        let random = &mut random;
        let (mut client, mut server) = (Side::new(random), Side::new(random));
        let (mut up, mut down) = (0, 0);
        // Most connections begin in a way that earns the bypass.
        let mut ping_pong = random.percent(70);
        for _ in 0..random.from(1..=6) {
            if ping_pong {
                let (there, back) = (client.message(random), server.message(random));
                for _ in 0..random.from(10..=120) {
                    client.steps.push(Step { after: down, until: up + there });
                    up += there;
                    server.steps.push(Step { after: up, until: down + back });
                    down += back;
                }
            } else {
                let (before_up, before_down) = (up, down);
                up += client.bulk(random);
                down += server.bulk(random);
                client.steps.push(Step { after: before_down, until: up });
                server.steps.push(Step { after: before_up, until: down });
            }
            ping_pong = !ping_pong;
        }
        client.receive(random, down);
        server.receive(random, up);
        let breaker = random.pick(&[(75, None), (12, Some(Direction::Up)), (13, Some(Direction::Down))]);
        match breaker {
            None => (),
            Some(Direction::Up) => client.breaks(random, up),
            Some(Direction::Down) => server.breaks(random, down),
        }
        Self { connection, client, server }
    }

    /// The same, with ends that earn the bypass: event-driven ones, that read with recv().
    pub(crate) fn event_driven(mut self) -> Self {
        for side in [&mut self.client, &mut self.server] {
            side.driver = match side.driver {
                Driver::Blocking | Driver::Turning(_) => Driver::EpollEdge,
                Driver::ConnectTimeout => Driver::EpollLevel,
                driver => driver,
            };
            side.reads = match side.reads {
                Reads::Splice => Reads::Peek,
                Reads::WaitAll | Reads::SpliceAfter(_) | Reads::LowWaterAfter(_) => Reads::Recv,
                reads => reads,
            };
        }
        self
    }

    /// What this end sends into `Direction`.
    pub(crate) fn sender(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Up => &self.client,
            Direction::Down => &self.server,
        }
    }

    /// Whether one end breaks off, after which the other may find its connection reset.
    pub(crate) fn breaks(&self) -> bool {
        [&self.client, &self.server].iter().any(|side| side.end.breaks())
    }
}

impl Side {
    fn new(random: &mut Random) -> Self {
        let turning = Driver::Turning(random.of_any_size(1..=200));
        let splices = Reads::SpliceAfter(random.of_any_size(1..=200));
        let low_water = Reads::LowWaterAfter(random.of_any_size(1..=200));
        Self {
            driver: random.pick(&[
                (26, Driver::EpollEdge),
                (26, Driver::EpollLevel),
                (16, Driver::Poll),
                (14, Driver::Blocking),
                (8, Driver::ConnectTimeout),
                (10, turning),
            ]),
            writes: random.pick(&[
                (12, Writes::Tiny),
                (25, Writes::Small),
                (25, Writes::Medium),
                (15, Writes::Large),
                (11, Writes::Vectored),
                (12, Writes::Sendfile),
            ]),
            reads: random.pick(&[
                (50, Reads::Recv),
                (14, Reads::Peek),
                (8, Reads::WaitAll),
                (11, Reads::Splice),
                (11, splices),
                (6, low_water),
            ]),
            prompt: random.percent(97),
            steps: Vec::new(),
            incoming: 0,
            pauses: Vec::new(),
            end: random.pick(&[(70, End::HalfClose), (30, End::Close)]),
        }
    }

    fn message(&self, random: &mut Random) -> u64 {
        random.of_any_size(1..=if self.writes == Writes::Tiny { 16 } else { 8192 })
    }

    fn bulk(&self, random: &mut Random) -> u64 {
        let most = if self.writes == Writes::Tiny { MOST_TINY } else { MOST_BULK };
        if random.percent(15) { 0 } else { random.of_any_size(1..=most) }
    }

    fn receive(&mut self, random: &mut Random, incoming: u64) {
        self.incoming = incoming;
        if random.percent(30) {
            let pause = |random: &mut Random| {
                (random.from(0..=incoming), Duration::from_millis(random.of_any_size(20..=1500)))
            };
            self.pauses = (0..random.from(1..=3)).map(|_| pause(random)).collect();
            self.pauses.sort_unstable();
        }
    }

    fn breaks(&mut self, random: &mut Random, outgoing: u64) {
        let moment = if random.percent(50) {
            Moment::Sent(random.from(0..=outgoing))
        } else {
            Moment::Received(random.from(0..=self.incoming))
        };
        self.end = if random.percent(50) { End::Reset(moment) } else { End::Abandon(moment) };
    }

    /// How many bytes it sends when all goes well.
    pub(crate) fn outgoing(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.until)
    }

    /// How many bytes the other end must have sent by the time that this end goes on sending.
    pub(crate) fn wanted(&self, received: u64) -> u64 {
        self.steps.iter().map(|step| step.after).find(|after| *after > received).unwrap_or(self.incoming)
    }
}

impl End {
    pub(crate) fn breaks(self) -> bool {
        matches!(self, Self::Reset(_) | Self::Abandon(_))
    }
}

/// A variant's name without what it holds.
pub(crate) fn name(value: impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_repeats() {
        assert_eq!(format!("{:?}", Plan::new(3, 4)), format!("{:?}", Plan::new(3, 4)));
        assert_ne!(format!("{:?}", Plan::new(3, 4)), format!("{:?}", Plan::new(3, 5)));
    }

    /// With both ends doing as they are told, and only as early as they may, everything gets sent.
    #[test]
    fn no_plan_waits_for_itself() {
        for connection in 0..500 {
            let plan = Plan::new(1, connection);
            let (mut up, mut down, mut client, mut server) =
                (0, 0, &plan.client.steps[..], &plan.server.steps[..]);
            while !(client.is_empty() && server.is_empty()) {
                let before = (client.len(), server.len());
                while let Some(step) = client.first().filter(|step| step.after <= down) {
                    (up, client) = (step.until, &client[1..]);
                }
                while let Some(step) = server.first().filter(|step| step.after <= up) {
                    (down, server) = (step.until, &server[1..]);
                }
                assert_ne!((client.len(), server.len()), before, "{plan:?}");
            }
            assert_eq!((up, down), (plan.server.incoming, plan.client.incoming));
        }
    }

    #[test]
    fn every_behaviour_occurs() {
        let plans: Vec<_> = (0..500).map(|connection| Plan::new(1, connection)).collect();
        let names = |of: fn(&Side) -> String| {
            plans.iter().flat_map(|plan| [of(&plan.client), of(&plan.server)]).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(names(|side| name(side.driver)), 6);
        assert_eq!(names(|side| name(side.writes)), 6);
        assert_eq!(names(|side| name(side.reads)), 6);
        assert_eq!(names(|side| name(side.end)), 4);
    }
}
