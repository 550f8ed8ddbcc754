//! `sidecar agent`: arms the Pods of a node.
//!
//! One loop knows all Pods (`known`), decides (`wanted`) and starts jobs, which block on threads of their own (`jobs`). What
//! comes in is what the API server says (`watch`), what jobs did, and time. What is armed is pinned and written down: an
//! agent that ends leaves it, and the next one takes it over.

pub mod facts;
pub mod jobs;
pub mod known;
pub mod metrics;
pub mod status;
pub mod wanted;
pub mod watch;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

pub use self::jobs::Node;
use self::jobs::{JobError, Outcome};
use self::known::{News, Pods};
use self::metrics::Metrics;
use self::status::{Happened, Mouth};
use self::wanted::{Action, Standing};
use self::watch::Change;
use crate::admin::serve::{Limits, serve};
use crate::collect::{self, PREFIX};
use crate::host::pod_cgroup::PodUid;
use crate::instance::{self, Owner};
use crate::kubernetes::annotations::Overrides;
use crate::{bpf, memory};

/// How often what is armed is compared with the cgroups that are there.
const SWEEP: Duration = Duration::from_secs(5);
/// Every so many of these, pins of others' Pods are looked at as well.
const SWEEPS_PER_COLLECTION: u32 = 12;
/// After so much quiet, memory that jobs took goes back to the system.
const QUIET: Duration = Duration::from_secs(1);

type Job = (PodUid, Result<Outcome, JobError>);

/// What the agent's loop works with.
struct Agent {
    node: Arc<Node>,
    pods: Pods,
    mouth: Mouth,
    metrics: Metrics,
    jobs: JoinSet<Job>,
    /// Loading takes a processor.
    most_jobs: usize,
    /// The lists of Pods and of namespaces that were complete once.
    listed: [bool; 2],
}

/// Arms the Pods of a node until `end` resolves. What is armed stays then.
pub async fn run(
    client: Client,
    node: Node,
    name: &str,
    listener: Option<TcpListener>,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    if let Some(listener) = listener {
        tokio::spawn(serve(listener, Limits::default(), metrics.clone()));
    }
    let mut agent = Agent {
        pods: adopt(&node),
        node: Arc::new(node),
        mouth: Mouth::new(client.clone(), name, metrics.clone()),
        metrics: metrics.clone(),
        jobs: JoinSet::new(),
        most_jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4),
        listed: [false; 2],
    };
    let changes = watch::start(&client, name, &metrics);
    agent.work(changes, end).await;
    Ok(())
}

impl Agent {
    async fn work(&mut self, mut changes: mpsc::Receiver<Change>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sweeps, mut untidy) = (0, true);
        loop {
            self.start_jobs();
            self.metrics.pods(|state| self.pods.count(state));
            let due = self.pods.due().filter(|_| self.jobs.len() < self.most_jobs && self.is_complete());
            tokio::select! {
                () = &mut end => break,
                Some(change) = changes.recv() => self.change(change),
                Some(done) = self.jobs.join_next() => {
                    self.done(done);
                    untidy = true;
                }
                () = sleep_until(due) => {}
                () = tokio::time::sleep(QUIET), if untidy && self.jobs.is_empty() => {
                    memory::give_back();
                    untidy = false;
                }
                _ = sweep.tick() => {
                    self.pods.sweep();
                    if sweeps % SWEEPS_PER_COLLECTION == 0 {
                        collect_others(&self.node, &self.metrics, self.pods.uids());
                    }
                    sweeps += 1;
                }
            }
        }
        // What is begun is done: it takes a moment, and is written down then.
        while self.jobs.join_next().await.is_some() {}
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Pod(facts) => self.pods.is(facts),
            Change::PodGone(uid) => self.pods.gone(&uid),
            Change::PodsBegin => self.pods.begin_list(),
            Change::PodsListed => {
                self.pods.end_list();
                self.listed[0] = true;
            }
            Change::Namespace(name, enrols) => self.pods.namespace(&name, enrols),
            Change::NamespacesBegin => self.pods.begin_namespaces(),
            Change::NamespacesListed => {
                self.pods.end_namespaces();
                self.listed[1] = true;
            }
        }
        if self.is_complete() {
            self.metrics.synced();
        }
    }

    /// Before that, what is enrolled is not known. What is gone locally is collected all the same.
    fn is_complete(&self) -> bool {
        self.listed == [true; 2]
    }

    fn start_jobs(&mut self) {
        while self.is_complete() && self.jobs.len() < self.most_jobs {
            let now = Instant::now();
            let Some((uid, action)) = self.pods.next(now) else { return };
            if let Some((facts, report)) = self.pods.report(&uid, now) {
                self.mouth.report(facts, report);
            }
            let known = self.pods.get(&uid);
            let facts = known.and_then(|known| known.facts.as_ref());
            let armed = known.is_some_and(|known| matches!(known.standing, Standing::Armed { .. }));
            let early = facts.is_some_and(facts::Facts::is_early);
            let overrides = facts.and_then(|facts| facts.overrides.as_ref().ok());
            let overrides = overrides.map(|overrides| Overrides::clone(overrides)).unwrap_or_default();
            let node = Arc::clone(&self.node);
            let job: Box<dyn FnOnce(&PodUid) -> _ + Send> = match action {
                Action::Nothing | Action::Complain | Action::Forget => continue,
                Action::Arm => Box::new(move |uid| node.arm(uid, &overrides, early)),
                Action::Tell => Box::new(move |uid| node.tell(uid, armed)),
                Action::Disarm => Box::new(move |uid| node.disarm(uid)),
                Action::Finish => Box::new(move |uid| node.finish(uid, false)),
                Action::Restart => Box::new(move |uid| node.finish(uid, true)),
                Action::Collect => Box::new(move |uid| node.collect(uid)),
            };
            self.jobs.spawn_blocking(move || {
                // Whatever happens, the job of this Pod has an end.
                let result = std::panic::catch_unwind(AssertUnwindSafe(|| job(&uid)));
                (uid, result.unwrap_or(Err(JobError::Panicked)))
            });
        }
    }

    fn done(&mut self, done: Result<Job, tokio::task::JoinError>) {
        let (uid, result) = match done {
            Ok(done) => done,
            Err(panic) => {
                tracing::error!(%panic, "a job ended early");
                return;
            }
        };
        match &result {
            Ok(outcome) => tracing::debug!(%uid, ?outcome),
            Err(error) => tracing::warn!(%uid, error = error.shown()),
        }
        let News { happened, armed, failed, again, collected } = self.pods.done(&uid, result, Instant::now());
        if let Some(took) = armed {
            self.metrics.armed(took);
        }
        if let Some(cause) = failed {
            self.metrics.failed(cause);
        }
        if again {
            self.metrics.retried();
        }
        if collected {
            self.metrics.collected();
        }
        let facts = self.pods.get(&uid).and_then(|known| known.facts.as_ref());
        if let (Some(facts), Some(what)) = (facts, happened) {
            match &what {
                Happened::Armed => tracing::info!("{}/{}: armed", facts.namespace, facts.name),
                Happened::Disarmed => tracing::info!("{}/{}: disarmed", facts.namespace, facts.name),
                Happened::ArmFailed(why) => {
                    tracing::warn!("{}/{}: not armed: {why}", facts.namespace, facts.name);
                }
            }
            self.mouth.happened(facts, what);
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What an agent before this one has armed. What it had only begun is undone.
fn adopt(node: &Node) -> Pods {
    let mut pods = Pods::default();
    instance::remove_abandoned_claims(&node.run);
    for directory in instance::directories(&node.run) {
        let Some(uid) = uid_of(&directory) else { continue };
        let state = match instance::read(&directory) {
            Ok(state) if state.owner == Owner::Agent => state,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(%error, "a Pod is not taken over");
                continue;
            }
        };
        let links = state.pins.as_ref().and_then(|pins| bpf::pins::links(pins).ok());
        let whole = state.generation != 0 && links.is_some_and(|links| !links.is_empty());
        if !whole {
            tracing::warn!(%uid, "what was begun is undone");
            if let Err(error) = node.clear(&uid) {
                tracing::error!(%uid, %error, "some of it stays");
            }
            continue;
        }
        let standing = match state.generation {
            _ if state.leaving => Standing::Leaving,
            generation => Standing::Armed { generation },
        };
        let cgroup = state.armed.map(|cgroup| node.hierarchy.directory(&cgroup));
        pods.adopt(uid, standing, cgroup);
    }
    pods
}

fn uid_of(directory: &Path) -> Option<PodUid> {
    directory.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// Pins of Pods that armed themselves, and of those that went while no agent ran. `known`: the agent's own, which have jobs.
fn collect_others(node: &Arc<Node>, metrics: &Metrics, known: HashSet<String>) {
    let (node, metrics) = (Arc::clone(node), metrics.clone());
    tokio::task::spawn_blocking(move || {
        let ours = |name: &str| name.strip_prefix(PREFIX).is_some_and(|uid| known.contains(uid));
        for (name, result) in collect::gone(&node.run, ours) {
            match result {
                Ok(()) => {
                    metrics.collected();
                    tracing::info!("{name}: its Pod is gone: its pins were removed");
                }
                Err(error) => tracing::warn!(%error, "{name}: its pins stay"),
            }
        }
    });
}
