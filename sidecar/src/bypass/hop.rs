//! One hop of one connection, on its way up the ladder.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sidecar_common::bypass::{Answer, Ask, Counts, seen, term};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{Ladder, ProgramKey, terms};
use crate::bpf::bypass::{self, in_words};
use crate::net::addrs::{Direction, canonical};
use crate::net::sys;
use crate::observe::connection::{Program, Standing};
use crate::observe::programs::CgroupNames;

/// After so many messages, both ways together, a hop is looked at. Programs that connect or accept in one mode and read in
/// another have done so by then.
const LOOKS: [u32; 3] = [4, 8, 16];
/// Another proxy of this machine, which looks after as many messages, is met by then, or is not there.
const MEETINGS_END: u32 = 128;
/// Never again: more messages than a counter holds come first.
const NEVER: u32 = u32::MAX;
/// What was seen of an enrolled hop is asked again after twice as many messages, up to so many.
const WATCH_AT_MOST: u32 = 1 << 16;

/// The proxy's socket of a hop, and what is known of the program at its other end.
pub struct Hop {
    ladder: Arc<Ladder>,
    direction: Direction,
    cgroups: CgroupNames,
    messages: AtomicU32,
    next_look: AtomicU32,
    /// What the proxy sends may be redirected.
    bypassed: AtomicBool,
    /// At the other end is no program that this instance has armed; it may be another proxy.
    abroad: AtomicBool,
    found: OnceLock<Found>,
    state: Arc<Mutex<State>>,
}

/// How a hop stands, for whoever asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Where it is on the ladder.
    pub standing: Standing,
    /// Why, where that is not plain.
    pub reason: Option<Cow<'static, str>>,
    /// What the program sent to the proxy, by path; or what another proxy of this machine sent.
    pub to_proxy: Counts,
    /// What the proxy sent to it, by path.
    pub to_program: Counts,
    /// It was broken off because bytes could not be handed on.
    pub broken: bool,
}

/// What is found out at the first look.
struct Found {
    hop: bypass::Hop,
    key: ProgramKey,
    terms: u32,
}

impl Hop {
    /// `direction`: seen from the program, whether it accepted or dialled. `state` is kept up to date.
    pub fn new(
        ladder: Arc<Ladder>,
        direction: Direction,
        cgroups: CgroupNames,
        state: Arc<Mutex<State>>,
    ) -> Self {
        let [first, ..] = LOOKS;
        Self {
            ladder,
            direction,
            cgroups,
            messages: AtomicU32::new(0),
            next_look: AtomicU32::new(first),
            bypassed: AtomicBool::new(false),
            abroad: AtomicBool::new(false),
            found: OnceLock::new(),
            state,
        }
    }

    /// A message went over this hop, whichever way. Cheap, but for some of them.
    pub fn message(&self, stream: &TcpStream) {
        // Both directions run in one task: nobody else counts.
        let messages = self.messages.load(Ordering::Relaxed).saturating_add(1);
        self.messages.store(messages, Ordering::Relaxed);
        if messages >= self.next_look.load(Ordering::Relaxed) && messages != NEVER {
            let next = self.look(stream, messages);
            self.next_look.store(next, Ordering::Relaxed);
        }
    }

    /// Asks the kernel half for what it counted until now.
    pub fn count(&self) {
        if let Some(found) = self.found.get()
            && self.lock().standing != Standing::Remote
            && let Ok(answer) = self.ask(Ask::Count, found)
        {
            self.take(&answer);
        }
    }

    /// True when what the proxy sends to the program may skip the TCP stack.
    pub fn is_bypassed(&self) -> bool {
        self.bypassed.load(Ordering::Relaxed)
    }

    /// True when the program has closed its socket, as far as is known. TCP resets a connection whose reader closes with
    /// bytes unread; those in an enrolled socket's own queue are no such to it, and a writer that waits for room would wait
    /// until the kernel forgets the reader (`net.ipv4.tcp_fin_timeout`).
    pub fn is_abandoned(&self) -> bool {
        let is_gone = |found| self.ask(Ask::Count, found).is_ok_and(|answer| answer.seen & seen::GONE != 0);
        self.found.get().is_some_and(is_gone)
    }

    /// Looks, and climbs where it can. Returns after how many messages to look again.
    fn look(&self, stream: &TcpStream, messages: u32) -> u32 {
        let found = match self.found.get() {
            Some(found) => found,
            None => match self.find(stream) {
                Ok(Some(found)) => self.found.get_or_init(|| found),
                Ok(None) => return NEVER,
                Err(error) => {
                    tracing::debug!(%error, "look for the other end of a hop");
                    return NEVER;
                }
            },
        };
        if self.lock().standing == Standing::Earned {
            return self.watch(found, messages);
        }
        if self.abroad.load(Ordering::Relaxed) {
            return self.meet(found, messages);
        }
        if let Some(reason) = self.ladder.standings.lost(&found.key) {
            return self.settle(Standing::Lost, reason);
        }
        let last = messages >= LOOKS[LOOKS.len() - 1] || self.ladder.standings.earned(&found.key);
        let ask = if last { Ask::Enrol } else { Ask::Look };
        let answer = match self.ladder.kernel.ask(ask, found.hop, found.terms) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "ask the kernel half about a hop");
                return self.settle(Standing::Off, "the kernel half does not answer".into());
            }
        };
        self.judge(found, &answer, messages, last)
    }

    fn judge(&self, found: &Found, answer: &Answer, messages: u32, last: bool) -> u32 {
        let unfit = seen::SPLICED | seen::BLOCKED | seen::ULP | seen::RCVLOWAT | seen::ZEROCOPY;
        if answer.seen & seen::PAIR == 0 {
            let reason = "the other end is no open socket of an armed program here";
            let never = self.settle(Standing::Remote, reason.into());
            if !self.ladder.same_node {
                return never;
            }
            self.abroad.store(true, Ordering::Relaxed);
            return self.meet(found, messages);
        }
        if answer.seen & unfit != 0 {
            let reason = Cow::from(in_words(answer.seen));
            self.ladder.standings.lose(&found.key, reason.clone());
            return self.settle(Standing::Lost, reason);
        }
        if answer.seen & seen::BUSY != 0 {
            return after_busy(messages);
        }
        let event_loop_asked = found.terms & term::EPOLL != 0;
        if event_loop_asked && answer.seen & seen::EPOLL == 0 {
            return self.settle(
                Standing::Observed,
                "its program does not watch it by epoll: only `full` takes it".into(),
            );
        }
        if answer.seen & seen::ENROLLED != 0 {
            self.ladder.standings.enrolled(&found.key);
            self.bypassed.store(found.terms & term::BOTH_WAYS != 0, Ordering::Relaxed);
            let reason = if found.terms == 0 { "towards the proxy" } else { "both ways" };
            self.settle(Standing::Earned, reason.into());
            return messages.saturating_mul(2);
        }
        if last {
            return self.settle(Standing::Off, in_words(answer.seen).into());
        }
        LOOKS.into_iter().find(|look| *look > messages).unwrap_or(NEVER)
    }

    /// Offers the proxy's socket to another proxy of this machine, and enrols it once that has offered its own.
    fn meet(&self, found: &Found, messages: u32) -> u32 {
        let answer = match self.ask(Ask::Meet, found) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "ask the kernel half for another proxy");
                return NEVER;
            }
        };
        if answer.seen & seen::ENROLLED != 0 {
            self.bypassed.store(true, Ordering::Relaxed);
            self.ladder.meter.enrolled();
            self.settle(Standing::Earned, "both ways, with another proxy of this machine".into());
            return messages.saturating_mul(2);
        }
        let refused = seen::ALONE | seen::AMBIGUOUS | seen::NO_ROOM | seen::REFUSED;
        if answer.seen & refused != 0 {
            return self.settle(Standing::Remote, in_words(answer.seen | seen::PAIR).into());
        }
        match messages {
            MEETINGS_END.. => NEVER,
            _ if answer.seen & seen::BUSY != 0 => after_busy(messages),
            _ => messages.saturating_mul(2),
        }
    }

    /// Asks about what was found.
    fn ask(&self, ask: Ask, found: &Found) -> io::Result<Answer> {
        let terms = if self.abroad.load(Ordering::Relaxed) { term::SAME_NODE } else { 0 };
        self.ladder.kernel.ask(ask, found.hop, terms)
    }

    /// Looks after an enrolled hop: its program may begin to read otherwise.
    fn watch(&self, found: &Found, messages: u32) -> u32 {
        if let Ok(answer) = self.ask(Ask::Count, found) {
            self.take(&answer);
            if answer.seen & (seen::SPLICED | seen::BLOCKED) != 0 {
                self.bypassed.store(false, Ordering::Relaxed);
                let reason = Cow::from(in_words(answer.seen | seen::PAIR));
                self.ladder.standings.lose(&found.key, reason.clone());
                return self.settle(Standing::Lost, reason);
            }
        }
        messages.saturating_add(messages.min(WATCH_AT_MOST))
    }

    /// The addresses, the program and its level. `None`: it stays off.
    fn find(&self, stream: &TcpStream) -> io::Result<Option<Found>> {
        let cookie = SockRef::from(stream).cookie()?;
        let (local, remote) = (canonical(stream.local_addr()?), canonical(stream.peer_addr()?));
        let record = sys::record(stream);
        let program = record.as_ref().map(|record| {
            let cgroup = self.cgroups.path(record.program.cgroup, record.program.pid);
            Program::from_kernel(&record.program, cgroup)
        });
        let port = match (self.direction, &record) {
            (Direction::Outbound, Some(record)) => record.original_destination.port,
            _ => remote.port(),
        };
        let level = self.ladder.level(port, program.as_ref());
        let Some(terms) = terms(level) else {
            self.settle(Standing::Off, "by configuration".into());
            return Ok(None);
        };
        let key = ProgramKey::new(program.as_ref(), self.direction, port);
        if terms & term::EPOLL != 0
            && let Some(doubt) = self.doubt(&key, program.as_ref())
        {
            self.settle(Standing::Observed, doubt);
            if !self.ladder.same_node {
                return Ok(None);
            }
            // Another proxy is no program to doubt, and what is not one meets nobody.
            self.abroad.store(true, Ordering::Relaxed);
        }
        Ok(Some(Found { hop: bypass::Hop { cookie, local, remote }, key, terms }))
    }

    /// Why a program may yet change its ways, for `auto`, which takes no such risk.
    fn doubt(&self, key: &ProgramKey, program: Option<&Program>) -> Option<Cow<'static, str>> {
        let Some(pid) = program.map(|program| program.pid).filter(|pid| *pid != 0) else {
            return Some("its program is not known: only `full` takes it".into());
        };
        match self.ladder.standings.may_splice(key, pid) {
            Ok(false) => None,
            Ok(true) => Some("its program may splice: only `full` takes it".into()),
            Err(error) => Some(format!("its executable cannot be read: {error}").into()),
        }
    }

    fn settle(&self, standing: Standing, reason: Cow<'static, str>) -> u32 {
        let mut state = self.lock();
        state.standing = standing;
        state.reason = Some(reason);
        NEVER
    }

    fn take(&self, answer: &Answer) {
        let mut state = self.lock();
        if self.abroad.load(Ordering::Relaxed) {
            self.ladder.meter.add(&state, answer);
        }
        state.broken = answer.seen & seen::BROKEN != 0;
        (state.to_proxy, state.to_program) = (answer.to_proxy, answer.to_program);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When to look again at a hop on which bytes were on their way: of two messages in a row one comes from the other end, which has
/// then mostly read what was sent before.
fn after_busy(messages: u32) -> u32 {
    if messages.is_multiple_of(2) { messages.saturating_add(1) } else { messages.saturating_mul(2) }
}

impl Drop for Hop {
    fn drop(&mut self) {
        if let Some(found) = self.found.get()
            && let Ok(answer) = self.ask(Ask::Forget, found)
            && self.lock().standing != Standing::Remote
        {
            self.take(&answer);
        }
    }
}
