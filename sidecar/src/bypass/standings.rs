//! What programs have shown over all their connections.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::net::addrs::Direction;
use crate::observe::connection::Program;

/// So many enrolled connections make a program's standing: the next ones are enrolled at their first look.
const EARNED: u32 = 8;
/// How many programs are remembered. Those beyond it begin anew with each connection.
const PROGRAMS: usize = 1024;

/// A program in one of its parts: one that reads its clients' connections by an event loop may still dial a database in
/// blocking mode.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ProgramKey {
    cgroup: Option<String>,
    comm: String,
    direction: Direction,
    port: u16,
}

/// Standings by program.
#[derive(Default)]
pub(super) struct Standings(Mutex<HashMap<ProgramKey, Standing>>);

#[derive(Default)]
struct Standing {
    enrolled: u32,
    lost: Option<Cow<'static, str>>,
}

impl ProgramKey {
    /// `direction`: seen from the program; `port`: the service's.
    pub(super) fn new(program: Option<&Program>, direction: Direction, port: u16) -> Self {
        let (comm, cgroup) =
            program.map_or_else(Default::default, |program| (program.comm.clone(), program.cgroup.clone()));
        Self { cgroup, comm, direction, port }
    }
}

impl Standings {
    /// Why a program has lost its claim; `None`: it has not.
    pub(super) fn lost(&self, program: &ProgramKey) -> Option<Cow<'static, str>> {
        self.with(program, |standing| standing.lost.clone())
    }

    /// True when a program has earned to be enrolled at the first look. One that nobody knows has not: what it did before
    /// was not recorded, nor is it told from others.
    pub(super) fn earned(&self, program: &ProgramKey) -> bool {
        !program.comm.is_empty()
            && self.with(program, |standing| (standing.enrolled >= EARNED).then_some(())).is_some()
    }

    /// A connection of it was enrolled.
    pub(super) fn enrolled(&self, program: &ProgramKey) {
        self.note(program, |standing| standing.enrolled = standing.enrolled.saturating_add(1));
    }

    /// It was seen to read in a way that the bypass does not serve. For good.
    pub(super) fn lose(&self, program: &ProgramKey, reason: Cow<'static, str>) {
        self.note(program, |standing| {
            standing.lost.get_or_insert(reason);
        });
    }

    fn with<T>(&self, program: &ProgramKey, f: impl FnOnce(&Standing) -> Option<T>) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(program).and_then(f)
    }

    fn note(&self, program: &ProgramKey, f: impl FnOnce(&mut Standing)) {
        let mut standings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if standings.len() < PROGRAMS || standings.contains_key(program) {
            f(standings.entry(program.clone()).or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> ProgramKey {
        let program = Program { pid: 1, comm: "app".into(), cgroup: None };
        ProgramKey::new(Some(&program), Direction::Inbound, port)
    }

    #[test]
    fn who_is_not_known_earns_nothing() {
        let (standings, nobody) = (Standings::default(), ProgramKey::new(None, Direction::Outbound, 1));
        (0..=EARNED).for_each(|_| standings.enrolled(&nobody));
        assert!(!standings.earned(&nobody));
    }

    #[test]
    fn a_standing_is_earned_by_eight_and_lost_by_one() {
        let standings = Standings::default();
        for _ in 0..EARNED {
            assert!(!standings.earned(&key(1)));
            standings.enrolled(&key(1));
        }
        assert!(standings.earned(&key(1)));
        assert!(!standings.earned(&key(2)));
        standings.lose(&key(1), "splices".into());
        standings.lose(&key(1), "later".into());
        assert_eq!(standings.lost(&key(1)).as_deref(), Some("splices"));
        assert_eq!(standings.lost(&key(2)), None);
    }

    #[test]
    fn no_more_programs_are_remembered_than_there_is_room_for() {
        let standings = Standings::default();
        for port in 0..=u16::try_from(PROGRAMS).unwrap() {
            standings.lose(&key(port), "blocks".into());
        }
        assert!(standings.lost(&key(0)).is_some());
        assert!(standings.lost(&key(u16::try_from(PROGRAMS).unwrap())).is_none());
    }
}
