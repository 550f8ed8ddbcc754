//! What the agent does on its node, one Pod at a time: each job blocks, and keeps nothing open when it is done.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::arm::{ArmError, Armed};
use crate::bpf::attach::ProgramName;
use crate::bpf::bypass::Bypass;
use crate::bpf::{BpfError, pins};
use crate::collect::{self, PREFIX};
use crate::config::{Config, Mode, OnProxyDown};
use crate::detach::{DetachError, undo};
use crate::host::cgroup::{self, CgroupPath, Hierarchy, members_below};
use crate::host::pod_cgroup::{self, PodUid};
use crate::host::{netns, seed};
use crate::instance::{self, Instance, InstanceError, InstanceName, Owner, State};
use crate::kubernetes::annotations::Overrides;
use crate::kubernetes::channel::{ChannelError, Hello, Order, Talk};
use crate::pod::{self, Pod};

/// How much of a reason is shown, in characters.
const MOST_SHOWN: usize = 300;
/// The most connections that a Pod may size its kernel half for: its maps are the agent's memory.
const MOST_CONNECTIONS: usize = 65_536;

/// The node, as its jobs need it.
pub struct Node {
    /// Where instances keep their directories.
    pub run: PathBuf,
    /// The machine's hierarchy.
    pub hierarchy: Hierarchy,
    /// Why this kernel cannot be trusted with the bypass.
    pub doubt: Option<String>,
    /// The user that proxies run as.
    pub user: u32,
    /// What the agent mounts stays when it ends: it is no container.
    pub mounts_stay: bool,
}

/// How a job ended.
#[derive(Debug)]
pub enum Outcome {
    /// The Pod is armed.
    Armed {
        /// A number that no other arming has.
        generation: u32,
        /// Its cgroup.
        cgroup: PathBuf,
        /// Its proxy knows.
        told: bool,
        /// How long it took.
        took: Duration,
    },
    /// The proxy knows how it stands.
    Told,
    /// Nothing is steered any more.
    Disarmed {
        /// Its proxy knows.
        told: bool,
    },
    /// Nothing is left.
    Gone,
    /// Not yet, for this reason.
    Waiting(&'static str),
}

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The kernel half, or what holds it.
    #[error(transparent)]
    Arm(#[from] ArmError),
    /// Its pins.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// Undoing it.
    #[error(transparent)]
    Detach(#[from] DetachError),
    /// Its directory.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The proxy.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The configuration.
    #[error(
        "`interception: iptables` takes rules, which only `sidecar init` makes: inject the Pod with mode init"
    )]
    Iptables,
    /// Likewise.
    #[error("`interception: none`: nothing is to be armed; give the Pod `sidecar.dev/inject: \"false\"`")]
    NotWanted,
    /// A fault of this program.
    #[error("a job ended early, by a panic; the log has more")]
    Panicked,
    /// A namespace of the Pod.
    #[error("enter the Pod's network namespace: {0}")]
    Netns(io::Error),
    /// Processes are out of sight.
    #[error("the Pod's processes cannot be seen: the agent needs hostPID and CAP_SYS_PTRACE")]
    Blind,
}

/// What failed, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The kernel, or a lack of privilege.
    Kernel,
    /// The proxy cannot be talked to.
    Proxy,
    /// The Pod's configuration or annotations.
    Configuration,
    /// The agent's own surroundings.
    Node,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::Proxy, Self::Configuration, Self::Node];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Proxy => "proxy",
            Self::Configuration => "configuration",
            Self::Node => "node",
        }
    }
}

impl JobError {
    /// In a word.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Arm(_) | Self::Bpf(_) | Self::Detach(_) => Cause::Kernel,
            Self::Channel(_) => Cause::Proxy,
            Self::Iptables | Self::NotWanted => Cause::Configuration,
            Self::Instance(_) | Self::Netns(_) | Self::Blind | Self::Panicked => Cause::Node,
        }
    }

    /// For people. What a Pod's programs say goes into it: it is cut, and has no control characters.
    pub fn shown(&self) -> String {
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        self.to_string().chars().take(MOST_SHOWN).map(visible).collect()
    }
}

type Done = Result<Outcome, JobError>;

impl Node {
    /// The directory of a Pod's instance.
    pub fn directory(&self, uid: &PodUid) -> PathBuf {
        self.run.join(format!("{PREFIX}{uid}"))
    }

    /// Arms a Pod once its proxy listens; before that, if it is `early`.
    pub fn arm(&self, uid: &PodUid, overrides: &Overrides, early: bool) -> Done {
        let begun = Instant::now();
        let Some(cgroup) = pod_cgroup::find(&self.hierarchy, uid) else {
            return Ok(Outcome::Waiting("its cgroup is not there"));
        };
        let Some(netns) = self.netns(&cgroup)? else {
            return Ok(Outcome::Waiting("none of its processes runs"));
        };
        let armed = netns::inside(&netns, || self.arm_inside(uid, &cgroup, overrides, early));
        let mut outcome = armed.map_err(JobError::Netns)??;
        if let Outcome::Armed { took, .. } = &mut outcome {
            *took = begun.elapsed();
        }
        Ok(outcome)
    }

    fn arm_inside(&self, uid: &PodUid, cgroup: &CgroupPath, overrides: &Overrides, early: bool) -> Done {
        let begun = match Talk::begin(self.user) {
            // Nobody in the Pod keeps it from being closed.
            Err(error) if early => {
                tracing::warn!(%uid, error = JobError::from(error).shown(), "armed without its proxy");
                None
            }
            begun => begun?,
        };
        if begun.is_none() && !early {
            return Ok(Outcome::Waiting("its proxy does not listen"));
        }
        let (talk, hello) = begun.unzip();
        let config = config_of(hello.as_ref(), overrides);
        match config.interception.mode {
            Mode::Ebpf => {}
            Mode::Iptables => return Err(JobError::Iptables),
            Mode::None => {
                let reason = "by configuration, nothing is intercepted".to_owned();
                if let Some(talk) = talk {
                    talk.order(&Order::Disarmed { reason }, None)?;
                }
                return Err(JobError::NotWanted);
            }
        }
        self.clear(uid)?;
        let name = InstanceName::try_from(format!("{PREFIX}{uid}"))?;
        let mut instance = Instance::claim(&self.run, name, Owner::Agent)?;
        instance.state.netns = seed::own_netns().unwrap_or_default();
        let pod = Pod {
            hierarchy: &self.hierarchy,
            cgroup,
            user: self.user,
            mark: 0,
            ports: hello.map_or_else(|| pod::ports(config.ports), |hello| hello.ports),
        };
        match self.attach(&pod, &config, talk, early, &mut instance) {
            Ok((generation, told)) => {
                instance.stay();
                let cgroup = self.hierarchy.directory(cgroup);
                Ok(Outcome::Armed { generation, cgroup, told, took: Duration::ZERO })
            }
            Err(error) => {
                if let Err(left) = undo(instance.directory(), &instance.state) {
                    tracing::error!(%left, "{uid}: some of it stays until the next try");
                    instance.stay();
                }
                Err(error)
            }
        }
    }

    /// Attaches, tells the proxy, and writes down that all is done; also says whether the proxy knows, without which it is
    /// done only if it is `early`.
    fn attach(
        &self,
        pod: &Pod<'_>,
        config: &Config,
        talk: Option<Talk>,
        early: bool,
        instance: &mut Instance,
    ) -> Result<(u32, bool), JobError> {
        let doubt = || Ok(self.doubt.clone());
        let bypass = pod::Bypass { opened_by: None, doubt: &doubt };
        // A Pod that runs already has connections to make until its proxy has announced itself.
        let mut meanwhile = config.clone();
        if talk.is_some() {
            meanwhile.interception.on_proxy_down = OnProxyDown::Open;
        }
        let mut armed: Armed = pod.arm(&meanwhile, &bypass, || self.mounts_stay, instance)?;
        let generation = instance.state.links.last().copied().unwrap_or_default();
        let mut told = false;
        if let Some(talk) = talk {
            let (order, program) = armed_order(instance, generation);
            match talk.order(&order, program.as_ref().map(AsFd::as_fd)) {
                Err(error) if early => {
                    tracing::warn!(
                        error = JobError::from(error).shown(),
                        "the proxy does not know that it is armed"
                    );
                }
                ordered => ordered.map(|()| told = true)?,
            }
            armed.settle(&config.interception, pod.exemption())?;
        }
        instance.state.generation = generation;
        instance.save()?;
        Ok((generation, told))
    }

    /// Tells the proxy of a Pod how it stands. A Pod that has another network namespace by now is not armed: its sandbox
    /// was made again. Nor is one of which nothing is written down any more, though it was `armed`.
    pub fn tell(&self, uid: &PodUid, armed: bool) -> Done {
        let instance = Instance::adopt(&self.directory(uid)).ok();
        if armed && instance.is_none() {
            return self.finish(uid, true);
        }
        let (order, program) = match &instance {
            Some(instance) if !instance.state.leaving => armed_order(instance, instance.state.generation),
            _ => (Order::Disarmed { reason: "this Pod is not enrolled".to_owned() }, None),
        };
        let armed = instance.filter(|instance| !instance.state.leaving).map(|instance| instance.state.netns);
        let told = self.talk(uid, |talk, _| {
            if armed.is_some() && armed != seed::own_netns() {
                return Ok(false);
            }
            talk.order(&order, program.as_ref().map(AsFd::as_fd)).map(|()| true)
        })?;
        match told {
            None => Ok(Outcome::Waiting("its proxy does not listen")),
            Some(true) => Ok(Outcome::Told),
            Some(false) => self.finish(uid, true),
        }
    }

    /// Ends the steering of new connections. Those that are under way go on: what they need stays.
    pub fn disarm(&self, uid: &PodUid) -> Done {
        let mut instance = Instance::adopt(&self.directory(uid))?;
        instance.state.leaving = true;
        instance.save()?;
        if let Some(pins) = &instance.state.pins {
            pins::take_off(pins, &ProgramName::STEERING)?;
        }
        // One that cannot be told now is told when it is seen next.
        let told = self.tell(uid, false).inspect_err(|error| {
            tracing::warn!(error = error.shown(), "{uid}: the proxy does not know that the Pod is disarmed");
        });
        Ok(Outcome::Disarmed { told: matches!(told, Ok(Outcome::Told)) })
    }

    /// Removes the rest, once the proxy serves no connection any more; or at once.
    pub fn finish(&self, uid: &PodUid, at_once: bool) -> Done {
        if !at_once && self.talk(uid, |_, hello| Ok(hello.open))?.is_some_and(|open| open > 0) {
            return Ok(Outcome::Waiting("connections are under way"));
        }
        self.clear(uid)?;
        Ok(Outcome::Gone)
    }

    /// Removes what a Pod left that is gone.
    pub fn collect(&self, uid: &PodUid) -> Done {
        let directory = self.directory(uid);
        if !directory.exists() {
            return Ok(Outcome::Gone);
        }
        let state = instance::read(&directory)?;
        // On a hybrid host the cgroup stays, and the link to the network namespace is off if the Pod was to be let go.
        let is_populated = |cgroup: &CgroupPath| cgroup::is_populated(&self.hierarchy.directory(cgroup));
        if state.armed.as_ref().is_some_and(is_populated) && !is_detached(&state)? {
            return Ok(Outcome::Waiting(
                "its processes, its network namespace and its cgroup are still there",
            ));
        }
        self.clear(uid)?;
        Ok(Outcome::Gone)
    }

    /// Undoes all that is written down.
    pub fn clear(&self, uid: &PodUid) -> Result<(), JobError> {
        let directory = self.directory(uid);
        if directory.exists() {
            undo(&directory, &instance::read(&directory)?)?;
        }
        Ok(())
    }

    /// `None`: nobody listens, or there is no process in whose network namespace one could.
    fn talk<T: Send>(
        &self,
        uid: &PodUid,
        what: impl FnOnce(Talk, Hello) -> Result<T, ChannelError> + Send,
    ) -> Result<Option<T>, JobError> {
        let Some(cgroup) = pod_cgroup::find(&self.hierarchy, uid) else { return Ok(None) };
        let Some(netns) = self.netns(&cgroup)? else { return Ok(None) };
        let talked = netns::inside(&netns, || {
            Talk::begin(self.user)?.map(|(talk, hello)| what(talk, hello)).transpose()
        });
        Ok(talked.map_err(JobError::Netns)??)
    }

    /// The network namespace of a Pod: that of its oldest process. One that is just starting may still be in the
    /// machine's own, or the runtime's, which is never a Pod's. (The first process may be one that nobody may look at.)
    fn netns(&self, cgroup: &CgroupPath) -> Result<Option<File>, JobError> {
        let machines = [seed::netns_of_init(), seed::own_netns()];
        let mut processes = members_below(&self.hierarchy.directory(cgroup));
        // As 0 are shown those of another pid namespace.
        if !processes.is_empty() && processes.iter().all(|pid| pid.as_raw() == 0) {
            return Err(JobError::Blind);
        }
        processes.sort_by_key(|pid| instance::start_time(pid.as_raw()).unwrap_or(u64::MAX));
        let mut refused = false;
        for pid in processes {
            let opened =
                File::open(format!("/proc/{pid}/ns/net")).and_then(|file| Ok((file.metadata()?.ino(), file)));
            match opened {
                Ok((inode, file)) if !machines.contains(&Some(inode)) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = true,
                _ => {}
            }
        }
        if refused { Err(JobError::Blind) } else { Ok(None) }
    }
}

/// What a Pod has pinned holds nothing any more.
fn is_detached(state: &State) -> Result<bool, BpfError> {
    let Some(pins) = &state.pins else { return Ok(true) };
    collect::is_gone(pins).or_else(|cause| match cause.kind() {
        io::ErrorKind::NotFound => Ok(true),
        _ => Err(BpfError::File { operation: "look at the pins in", path: pins.clone(), cause }),
    })
}

/// What the proxy said, or else the defaults, with what the Pod's annotations set.
fn config_of(hello: Option<&Hello>, overrides: &Overrides) -> Config {
    let mut config = Config::default();
    if let Some(hello) = hello {
        config.interception = hello.interception.clone();
        let given = hello.max_connections.min(MOST_CONNECTIONS);
        config.limits.max_connections = hello.max_connections_given.then_some(given);
    }
    overrides.apply(&mut config.interception);
    config
}

/// With the program of the bypass, if there is one.
fn armed_order(instance: &Instance, generation: u32) -> (Order, Option<std::os::fd::OwnedFd>) {
    let mut no_bypass = instance.state.no_bypass.clone();
    let program = match (&no_bypass, &instance.state.pins) {
        (None, Some(pins)) => Bypass::program(pins)
            .inspect_err(|error| no_bypass = Some(format!("its program cannot be opened: {error}")))
            .ok(),
        _ => None,
    };
    (Order::Armed { generation, no_bypass }, program)
}
