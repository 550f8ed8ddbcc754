//! What programs have shown over all their connections.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::host::executable;
use crate::net::addrs::Direction;
use crate::observe::connection::{Program, Standing as Word};

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
    may_splice: Option<bool>,
}

/// A program's standing, for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramStanding {
    /// The program's name; empty where it is not known.
    pub comm: String,
    /// The path of its cgroup.
    pub cgroup: Option<String>,
    /// Whether it serves the port (`inbound`) or dials it (`outbound`).
    pub direction: String,
    /// The service's port.
    pub port: u16,
    /// Its connections that were enrolled.
    pub enrolled: u32,
    /// Where the program is on the ladder.
    pub standing: Word,
    /// Why it has lost its claim.
    pub reason: Option<String>,
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

    /// Whether its executable may call splice(2). Reads that once a program.
    pub(super) fn may_splice(&self, program: &ProgramKey, pid: u32) -> io::Result<bool> {
        if let Some(known) = self.with(program, |standing| standing.may_splice) {
            return Ok(known);
        }
        let found = executable::may_splice(pid)?;
        self.note(program, |standing| standing.may_splice = Some(found));
        Ok(found)
    }

    /// All programs that are remembered.
    pub(super) fn all(&self) -> Vec<ProgramStanding> {
        let standings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = standings.iter().map(|(program, standing)| ProgramStanding {
            comm: program.comm.clone(),
            cgroup: program.cgroup.clone(),
            direction: program.direction.to_string(),
            port: program.port,
            enrolled: standing.enrolled,
            standing: match standing {
                Standing { lost: Some(_), .. } => Word::Lost,
                Standing { enrolled: EARNED.., .. } => Word::Earned,
                _ => Word::Observed,
            },
            reason: standing.lost.as_deref().map(str::to_owned),
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort_by(|a, b| (&a.comm, a.port, &a.cgroup).cmp(&(&b.comm, b.port, &b.cgroup)));
        shown
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
