//! The Pods that the agent knows, and what is to be done about each: which job is next, when, and what is said of it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::facts::{Facts, Running};
use super::jobs::{Cause, JobError, Outcome};
use super::metrics::PodState;
use super::status::{Happened, Report};
use super::wanted::{Action, Standing, decide};
use crate::host::cgroup::is_populated;
use crate::host::pod_cgroup::PodUid;

/// The first wait for a Pod that is not ready, and the longest; each is twice the one before.
const SOON: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(5);
/// The same after a failure, which seldom mends itself.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const LATEST_AFTER_FAILURE: Duration = Duration::from_secs(60);
/// How long what is attached stays after nothing is steered any more: a connection that was steered just before may still wait to be
/// accepted by the proxy, which then asks the kernel half about it.
const SETTLING: Duration = Duration::from_secs(2);
/// How long an annotation has to come back from the API before it is set again, at first and at most.
const ECHO: Duration = Duration::from_secs(5);
const LATEST_ECHO: Duration = Duration::from_secs(300);

/// A Pod.
#[derive(Default)]
pub struct Known {
    /// As the API has it; `None`: it has none such.
    pub facts: Option<Facts>,
    /// As it stands here.
    pub standing: Standing,
    /// The run of the proxy that was told so.
    told: Option<Running>,
    /// When the last connection that was steered is with the proxy; `None`: there was none lately.
    settled: Option<Instant>,
    /// The directory of its cgroup, while something is attached to it.
    pub cgroup: Option<PathBuf>,
    /// A job is at work.
    job: Option<Job>,
    /// Something came while it was.
    again: bool,
    /// When to look at it next; `None`: when something comes.
    due: Option<Instant>,
    tries: u32,
    failure: Option<String>,
    /// It was there when the Pods were listed last.
    listed: bool,
    /// When the annotation was set, and how often in vain.
    said: Option<(Instant, u32)>,
}

/// Begun for this run of the proxy.
struct Job {
    proxy: Option<Running>,
}

/// All of them.
#[derive(Default)]
pub struct Pods {
    pods: HashMap<PodUid, Known>,
    /// The namespaces that enrol their Pods.
    namespaces: HashMap<Box<str>, bool>,
}

/// What came of a job, for people.
#[derive(Default)]
pub struct News {
    /// To be said of the Pod.
    pub happened: Option<Happened>,
    /// It was armed in so much time.
    pub armed: Option<Duration>,
    /// It failed.
    pub failed: Option<Cause>,
    /// It will be tried again.
    pub again: bool,
    /// What it left is removed.
    pub collected: bool,
}

// === impl Pods ===

impl Pods {
    /// What is armed already.
    pub fn adopt(&mut self, uid: PodUid, standing: Standing, cgroup: Option<PathBuf>) {
        let settled = (standing == Standing::Leaving).then(|| Instant::now() + SETTLING);
        self.pods.insert(uid, Known { standing, settled, cgroup, ..Known::default() });
    }

    /// A Pod is so.
    pub fn is(&mut self, facts: Facts) {
        let known = self.pods.entry(facts.uid.clone()).or_default();
        known.listed = true;
        if known.facts.as_ref() != Some(&facts) {
            known.tries = 0;
        }
        known.facts = Some(facts);
        known.look();
    }

    /// A Pod is no more.
    pub fn gone(&mut self, uid: &PodUid) {
        if let Some(known) = self.pods.get_mut(uid) {
            known.facts = None;
            known.look();
        }
    }

    /// What follows is all there is.
    pub fn begin_list(&mut self) {
        self.pods.values_mut().for_each(|known| known.listed = false);
    }

    /// Those were all.
    pub fn end_list(&mut self) {
        for known in self.pods.values_mut().filter(|known| !known.listed) {
            known.facts = None;
            known.look();
        }
    }

    /// A namespace enrols its Pods, or does not.
    pub fn namespace(&mut self, name: &str, enrols: bool) {
        let before =
            if enrols { self.namespaces.insert(name.into(), true) } else { self.namespaces.remove(name) };
        if before.unwrap_or(false) != enrols {
            let of_it =
                |known: &&mut Known| known.facts.as_ref().is_some_and(|facts| &*facts.namespace == name);
            self.pods.values_mut().filter(of_it).for_each(Known::look);
        }
    }

    /// What follows is all there is.
    pub fn begin_namespaces(&mut self) {
        self.namespaces.values_mut().for_each(|listed| *listed = false);
    }

    /// Those were all. (A value is true once it was listed.)
    pub fn end_namespaces(&mut self) {
        self.namespaces.retain(|_, listed| *listed);
        self.pods.values_mut().for_each(Known::look);
    }

    /// Looks again at Pods of which no process runs, whatever the API says or cannot say.
    pub fn sweep(&mut self) {
        for known in self.pods.values_mut() {
            if known.cgroup.as_ref().is_some_and(|cgroup| !is_populated(cgroup)) {
                known.facts = known.facts.take().map(|facts| Facts { over: true, ..facts });
                known.look();
            }
        }
    }

    /// When the next one is due.
    pub fn due(&self) -> Option<Instant> {
        self.pods.values().filter(|known| known.job.is_none()).filter_map(|known| known.due).min()
    }

    /// What is to be done now about one that is due. A job is at work on it from then on, but for what is none.
    pub fn next(&mut self, now: Instant) -> Option<(PodUid, Action)> {
        let is_due = |known: &Known| known.job.is_none() && known.due.is_some_and(|due| due <= now);
        let uid = self.pods.iter().find(|(_, known)| is_due(known)).map(|(uid, _)| uid.clone())?;
        let known = self.pods.get_mut(&uid)?;
        known.due = None;
        let facts = known.facts.as_ref();
        let namespace = facts.is_some_and(|facts| self.namespaces.contains_key(&facts.namespace));
        let action = match decide(facts, namespace, known.standing, known.told) {
            Action::Finish | Action::Restart if known.settled.is_some_and(|settled| settled > now) => {
                known.due = known.settled;
                Action::Nothing
            }
            action => action,
        };
        match action {
            Action::Nothing => known.failure = None,
            Action::Complain => known.failure = facts.and_then(complaint),
            Action::Forget => drop(self.pods.remove(&uid)),
            _ => known.job = Some(Job { proxy: facts.and_then(|facts| facts.proxy) }),
        }
        Some((uid, action))
    }

    /// A job has ended.
    pub fn done(&mut self, uid: &PodUid, result: Result<Outcome, JobError>, now: Instant) -> News {
        self.pods.get_mut(uid).map_or_else(News::default, |known| known.done(result, now))
    }

    /// The names of those of which something is armed.
    pub fn uids(&self) -> HashSet<String> {
        let armed =
            self.pods.iter().filter(|(_, known)| known.standing != Standing::Bare || known.job.is_some());
        armed.map(|(uid, _)| uid.to_string()).collect()
    }

    /// One of them.
    pub fn get(&self, uid: &PodUid) -> Option<&Known> {
        self.pods.get(uid)
    }

    /// What the annotation of a Pod is to say, if it does not say so, and was not just set.
    pub fn report(&mut self, uid: &PodUid, now: Instant) -> Option<(&Facts, Report)> {
        let known = self.pods.get_mut(uid)?;
        let wanted = known.wanted_report()?;
        if known.facts.as_ref()?.reported.as_ref() == Some(&wanted) {
            known.said = None;
            return None;
        }
        let tries = match known.said {
            Some((since, tries)) if now < since + patience(ECHO, LATEST_ECHO, tries) => {
                known.wake(since + patience(ECHO, LATEST_ECHO, tries));
                return None;
            }
            Some((_, tries)) => tries + 1,
            None => 0,
        };
        known.said = Some((now, tries));
        known.wake(now + patience(ECHO, LATEST_ECHO, tries));
        known.facts.as_ref().map(|facts| (facts, wanted))
    }

    /// How many are in a state.
    pub fn count(&self, state: PodState) -> u64 {
        let namespaces = &self.namespaces;
        self.pods.values().filter(|known| known.state(namespaces) == Some(state)).count() as u64
    }
}

// === impl Known ===

impl Known {
    fn look(&mut self) {
        self.again = self.job.is_some();
        self.due = Some(Instant::now());
    }

    fn wake(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn done(&mut self, result: Result<Outcome, JobError>, now: Instant) -> News {
        let proxy = self.job.take().and_then(|job| job.proxy);
        let mut news = News::default();
        let was_failed = self.failure.take();
        match result {
            Ok(outcome) => {
                let waits = matches!(outcome, Outcome::Waiting(_));
                self.take(outcome, proxy, now, &mut news);
                if waits {
                    news.again = true;
                    self.wake(now + patience(SOON, LATEST, self.tries));
                    self.tries += 1;
                } else {
                    self.tries = 0;
                    self.due = Some(now);
                }
            }
            Err(error) => {
                let text = error.shown();
                news.failed = Some(error.cause());
                if was_failed.as_ref() != Some(&text) {
                    news.happened = Some(Happened::ArmFailed(text.clone()));
                }
                self.failure = Some(text);
                self.wake(now + patience(AFTER_FAILURE, LATEST_AFTER_FAILURE, self.tries));
                self.tries += 1;
            }
        }
        if std::mem::take(&mut self.again) {
            self.due = Some(now);
        }
        news
    }

    fn take(&mut self, outcome: Outcome, proxy: Option<Running>, now: Instant, news: &mut News) {
        match outcome {
            Outcome::Armed { generation, cgroup, told, took } => {
                self.standing = Standing::Armed { generation };
                self.cgroup = Some(cgroup);
                self.told = proxy.filter(|_| told);
                news.armed = Some(took);
                news.happened = Some(Happened::Armed);
            }
            Outcome::Told => self.told = proxy,
            Outcome::Disarmed { told } => {
                self.standing = Standing::Leaving;
                self.settled = Some(now + SETTLING);
                self.told = proxy.filter(|_| told);
                news.happened = Some(Happened::Disarmed);
            }
            Outcome::Gone => {
                news.collected = self.facts.as_ref().is_none_or(|facts| facts.over);
                self.standing = Standing::Bare;
                self.cgroup = None;
            }
            Outcome::Waiting(_) => {}
        }
    }

    /// `None`: nothing is to be said, since nothing ever was armed, or nobody could hear it.
    fn wanted_report(&self) -> Option<Report> {
        let facts = self.facts.as_ref().filter(|facts| facts.ours && !facts.over && !facts.ending)?;
        let report = |armed, reason: &str| Some(Report { armed, reason: reason.to_owned() });
        match (self.standing, &self.failure) {
            (Standing::Armed { .. }, _) => report(true, "Armed"),
            (_, Some(failure)) => report(false, failure),
            (Standing::Leaving, None) => report(false, "NotEnrolled"),
            (Standing::Bare, None) => {
                facts.reported.as_ref().filter(|reported| reported.armed).and(report(false, "NotEnrolled"))
            }
        }
    }

    fn state(&self, namespaces: &HashMap<Box<str>, bool>) -> Option<PodState> {
        let facts = self.facts.as_ref().filter(|facts| facts.ours && !facts.over);
        Some(match self.standing {
            Standing::Armed { .. } => PodState::Armed,
            Standing::Leaving => PodState::Leaving,
            Standing::Bare if self.failure.is_some() => PodState::Failed,
            Standing::Bare if facts?.is_enrolled(namespaces.contains_key(&facts?.namespace)) => {
                PodState::Waiting
            }
            Standing::Bare => PodState::Disarmed,
        })
    }
}

fn complaint(facts: &Facts) -> Option<String> {
    let asks = facts.asks.as_ref().err();
    asks.or(facts.overrides.as_ref().err()).map(ToString::to_string)
}

/// Twice as long with each try.
fn patience(first: Duration, longest: Duration, tries: u32) -> Duration {
    first.saturating_mul(1 << tries.min(16)).min(longest)
}
