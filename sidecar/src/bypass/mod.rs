//! The ladder of the bypass: which connections may skip the TCP stack, and what their programs have shown.
//!
//! A hop between the proxy and a program on this machine is first only observed. Once it has carried some messages, the
//! kernel half is asked how the program uses its socket; when nothing speaks against it, both ends are enrolled. A
//! program that was once seen to read in a way that enrolled sockets do not serve is not tried again.

pub mod hop;
mod same_node;
mod standings;

use std::sync::{Arc, PoisonError, RwLock};

use sidecar_common::bypass::term;

use self::same_node::Meter;
pub use self::standings::ProgramStanding;
use self::standings::{ProgramKey, Standings};
use crate::bpf::bypass::Bypass as Kernel;
use crate::config::{Bypass, BypassRule, Interception};
use crate::observe::connection::Program;

/// Decides for all hops of an instance.
pub struct Ladder {
    kernel: Kernel,
    /// Where no rule holds.
    level: Bypass,
    rules: Vec<BypassRule>,
    /// Also to proxies of other instances.
    same_node: bool,
    meter: Meter,
    standings: Standings,
}

/// The ladder of an instance, or why it has none; the agent of a node may bring one later. A handle: clones share it.
#[derive(Clone)]
pub struct Current {
    ladder: Arc<RwLock<Result<Arc<Ladder>, Arc<str>>>>,
    meter: Meter,
}

impl Current {
    /// None, for this reason.
    pub fn none(reason: &str) -> Self {
        Self { ladder: Arc::new(RwLock::new(Err(reason.into()))), meter: Meter::default() }
    }

    /// The one for connections that begin now.
    pub fn get(&self) -> Result<Arc<Ladder>, Arc<str>> {
        self.ladder.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that begin from now on climb this one.
    pub fn set(&self, ladder: Result<Ladder, String>) {
        let meter = self.meter.clone();
        let ladder = ladder.map(|ladder| Arc::new(Ladder { meter, ..ladder })).map_err(Arc::from);
        *self.ladder.write().unwrap_or_else(PoisonError::into_inner) = ladder;
    }

    /// What all of them sent to other proxies of the machine.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }
}

impl Ladder {
    /// By the configured level and rules.
    pub fn new(kernel: Kernel, interception: &Interception) -> Self {
        let rules = interception.bypass_rules.clone();
        let (level, same_node) = (interception.bypass, interception.bypass_same_node);
        let (meter, standings) = (Meter::default(), Standings::default());
        Self { kernel, level, rules, same_node, meter, standings }
    }

    /// Connections to other proxies of the machine may climb too.
    pub fn meets_proxies(&self) -> bool {
        self.same_node
    }

    /// What programs have shown, for people.
    pub fn programs(&self) -> Vec<ProgramStanding> {
        self.standings.all()
    }

    /// The level for a hop: that of the first rule that names it.
    fn level(&self, port: u16, program: Option<&Program>) -> Bypass {
        let rule = self.rules.iter().find(|rule| rule.matches(port, program));
        rule.map_or(self.level, |rule| rule.bypass)
    }
}

/// The terms on which a hop is enrolled; `None`: it is not.
fn terms(level: Bypass) -> Option<u32> {
    match level {
        Bypass::Off => None,
        Bypass::ToProxy => Some(0),
        Bypass::Full => Some(term::BOTH_WAYS),
        // What a program without an event loop does next cannot be told from what it did.
        Bypass::Auto => Some(term::BOTH_WAYS | term::EPOLL),
    }
}

impl Interception {
    /// Some connections may climb.
    pub fn wants_bypass(&self) -> bool {
        self.bypass_levels().any(|level| level != Bypass::Off)
    }

    /// Some may between proxies.
    pub fn wants_same_node(&self) -> bool {
        self.bypass_same_node && self.wants_bypass()
    }

    /// Some must be able to: without a bypass nothing is to start.
    pub fn insists_on_bypass(&self) -> bool {
        self.bypass_levels().any(|level| matches!(level, Bypass::Full | Bypass::ToProxy))
    }

    fn bypass_levels(&self) -> impl Iterator<Item = Bypass> {
        self.bypass_rules.iter().map(|rule| rule.bypass).chain([self.bypass])
    }
}

impl BypassRule {
    /// True when the rule names this port and program. A list that is empty names all.
    fn matches(&self, port: u16, program: Option<&Program>) -> bool {
        let any_of = |list: &[String], name: Option<&str>| {
            list.is_empty() || name.is_some_and(|name| list.iter().any(|one| one == name))
        };
        (self.ports.is_empty() || self.ports.contains(&port))
            && any_of(&self.programs, program.map(|program| program.comm.as_str()))
            && any_of(&self.cgroups, program.and_then(|program| program.cgroup.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(comm: &str, cgroup: &str) -> Program {
        Program { pid: 1, comm: comm.into(), cgroup: Some(cgroup.into()) }
    }

    fn rule(ports: &[u16], programs: &[&str], cgroups: &[&str]) -> BypassRule {
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        BypassRule {
            ports: ports.to_vec(),
            programs: strings(programs),
            cgroups: strings(cgroups),
            bypass: Bypass::Off,
        }
    }

    #[test]
    fn a_rule_names_what_all_its_lists_hold() {
        let redis = program("redis-server", "/pod/redis");
        assert!(rule(&[], &[], &[]).matches(1, None));
        assert!(rule(&[6379], &["redis-server"], &["/pod/redis"]).matches(6379, Some(&redis)));
        assert!(!rule(&[6379], &["java"], &[]).matches(6379, Some(&redis)));
        assert!(!rule(&[80], &["redis-server"], &[]).matches(6379, Some(&redis)));
        assert!(!rule(&[], &[], &["/pod"]).matches(6379, Some(&redis)));
        assert!(!rule(&[], &["java"], &[]).matches(6379, None), "a program that is not known is not named");
    }

    #[test]
    fn only_auto_asks_for_an_event_loop() {
        assert_eq!(terms(Bypass::Off), None);
        assert_eq!(terms(Bypass::ToProxy), Some(0));
        assert_eq!(terms(Bypass::Full), Some(term::BOTH_WAYS));
        assert_eq!(terms(Bypass::Auto), Some(term::BOTH_WAYS | term::EPOLL));
    }
}
