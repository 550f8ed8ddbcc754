//! `sidecar init`: arm a Pod and exit; what is armed stays until `sidecar detach`.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, getppid};

use crate::arm;
use crate::bpf::probe;
use crate::collect;
use crate::config::{Config, Mode};
use crate::detach::undo;
use crate::host::age;
use crate::host::cgroup::{CgroupPath, Hierarchy};
use crate::host::pod_cgroup::{self, PodUid};
use crate::host::seed;
use crate::instance::{
    self, CGROUP_MOUNT, CONTROL_SOCKET, Instance, InstanceError, InstanceName, Owner, PROXY_DIRECTORY,
    RUN_DIRECTORY,
};
use crate::iptables;
use crate::kubernetes::annotations::Overrides;
use crate::pod::{self, Bypass, PROXY_UID, Pod};

/// The name of an instance outside Kubernetes.
const POD: &str = "pod";

/// `sidecar init`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration: a file, or a directory of files
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name by which `connections` and `detach` know this instance; by default `pod`, with --pod-uid `pod-UID`
    #[arg(long)]
    name: Option<InstanceName>,
    /// The uid of the Pod to arm, this one's: its cgroup is found by that
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pod_uid: Option<PodUid>,
    /// Where the machine's /sys/fs/cgroup is seen, for --pod-uid
    #[arg(long, value_name = "PATH", default_value = "/host/sys/fs/cgroup")]
    cgroup_root: PathBuf,
    /// The cgroup to arm, which holds the application and the proxy; by default the one above this process's own, which
    /// in a Pod is the Pod's. Needed where the container has a cgroup namespace of its own
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The user that the proxy runs as; its connections are exempt
    #[arg(long, default_value_t = PROXY_UID)]
    uid: u32,
    /// Connections with this mark are exempt as well, for a proxy that sets one
    #[arg(long, default_value_t = 0)]
    mark: u32,
    #[command(flatten)]
    overrides: Overrides,
}

/// Arms; leaves nothing behind when that fails.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let config = super::load(args.config.as_deref(), &args.overrides)?;
    // A signal waits until all is armed and written down, or nothing is.
    SigSet::all().thread_block().context("block signals")?;
    if args.pod_uid.is_some() {
        collect_what_pods_left();
    }
    let mut instance = claim(args)?;
    match arm(args, &config, &mut instance) {
        Ok(()) => {
            instance.stay();
            tracing::info!(age = ?age::own().unwrap_or_default(), "armed");
            Ok(super::DONE)
        }
        Err(error) => {
            if let Err(left) = undo(instance.directory(), &instance.state) {
                instance.stay();
                return Err(error.context(format!("{left}; run `sidecar detach {}`", instance.state.name)));
            }
            Err(error)
        }
    }
}

/// No container of theirs can: nobody else may be there to do it on a node without an agent.
fn collect_what_pods_left() {
    for (name, removed) in collect::gone(Path::new(RUN_DIRECTORY), |_| false) {
        match removed {
            Ok(()) => tracing::info!(%name, "collected what a Pod has left"),
            Err(error) => tracing::warn!(%name, %error, "what a Pod has left stays"),
        }
    }
}

fn claim(args: &Args) -> anyhow::Result<Instance> {
    let run_directory = Path::new(RUN_DIRECTORY);
    let name = match (&args.name, &args.pod_uid) {
        (Some(name), _) => name.clone(),
        (None, Some(uid)) => InstanceName::try_from(format!("{}{uid}", collect::PREFIX))?,
        (None, None) => InstanceName::try_from(POD.to_owned())?,
    };
    match Instance::claim(run_directory, name.clone(), Owner::Nobody) {
        // The Pod got another sandbox, and its init containers run again: what they armed before is for no one.
        Err(InstanceError::LeftBehind(_)) if args.pod_uid.is_some() => {
            let directory = run_directory.join(name.as_str());
            undo(&directory, &instance::read(&directory)?)?;
            Ok(Instance::claim(run_directory, name, Owner::Nobody)?)
        }
        claimed => Ok(claimed?),
    }
}

/// The hierarchy, and the cgroup in it to arm.
fn cgroup(args: &Args, instance: &Instance) -> anyhow::Result<(Hierarchy, CgroupPath)> {
    if let (Some(uid), None) = (&args.pod_uid, &args.cgroup) {
        let hierarchy = Hierarchy::at(&args.cgroup_root)?;
        let cgroup = pod_cgroup::find(&hierarchy, uid).with_context(|| {
            let root = hierarchy.root.display();
            format!("no cgroup of Pod {uid} below {root}: is that the machine's hierarchy? Name the cgroup with --cgroup")
        })?;
        return Ok((hierarchy, cgroup));
    }
    let hierarchy = Hierarchy::find(&instance.directory().join(CGROUP_MOUNT))?;
    let cgroup = match &args.cgroup {
        Some(path) => hierarchy.named(path)?,
        None => above(&hierarchy)?,
    };
    Ok((hierarchy, cgroup))
}

fn arm(args: &Args, config: &Config, instance: &mut Instance) -> anyhow::Result<()> {
    give_the_proxy_a_place(instance.directory(), args.uid)?;
    instance.state.netns = seed::own_netns().unwrap_or_default();
    let own = pod::ports(config.ports);
    match config.interception.mode {
        Mode::Ebpf => {
            let (hierarchy, cgroup) = cgroup(args, instance)?;
            let pod =
                Pod { hierarchy: &hierarchy, cgroup: &cgroup, user: args.uid, mark: args.mark, ports: own };
            let bypass = Bypass { opened_by: Some(args.uid), doubt: &probe::doubt_of_bypass };
            pod.arm(config, &bypass, in_the_machines_mounts, instance)?;
        }
        Mode::Iptables => {
            anyhow::ensure!(args.mark == 0, "--mark is for `interception: ebpf`; rules spare the user alone");
            instance.state.iptables = true;
            instance.state.no_bypass =
                Some("with `interception: iptables` there is no kernel half".to_owned());
            instance.save()?;
            let exempt = iptables::Exempt::Uid(args.uid);
            let rules = iptables::install(&arm::rules(
                config,
                instance.state.name.as_str(),
                &own,
                exempt,
                None,
                true,
            ))?;
            rules.leave();
        }
        Mode::None => {}
    }
    instance.save()?;
    fs::set_permissions(instance.directory(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// Where the proxy may make its control socket. The directory itself stays root's: `detach` believes what is in it.
fn give_the_proxy_a_place(directory: &Path, uid: u32) -> anyhow::Result<()> {
    let place = directory.join(PROXY_DIRECTORY);
    fs::create_dir(&place).with_context(|| format!("create {}", place.display()))?;
    chown(&place, Some(uid), None).with_context(|| format!("give {} to user {uid}", place.display()))?;
    symlink(Path::new(PROXY_DIRECTORY).join(CONTROL_SOCKET), directory.join(CONTROL_SOCKET))
        .with_context(|| format!("create {CONTROL_SOCKET} in {}", directory.display()))
}

/// The Pod's cgroup is above those of its containers; a process in the root has none above it.
fn above(hierarchy: &Hierarchy) -> anyhow::Result<CgroupPath> {
    let own = hierarchy.own()?;
    let parent = own.parent().filter(|parent| *parent != CgroupPath::root());
    parent.context(
        "the cgroup above this process's is the root, or out of sight: name the cgroup to arm with --cgroup",
    )
}

/// This process sees the mounts of whoever started it: in a container, or under `ip netns exec`, they would go as soon
/// as this command ends.
pub(super) fn in_the_machines_mounts() -> bool {
    /// `PROC_PID_INIT_INO` (include/linux/proc_ns.h): the first pid namespace.
    const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
    let inode = |path: String| fs::metadata(path).ok().map(|metadata| metadata.ino());
    let own = inode("/proc/self/ns/mnt".to_owned());
    let mut ancestor = getppid();
    while ancestor.as_raw() > 0 {
        // Of one that may not be looked at, nothing is known.
        if inode(format!("/proc/{ancestor}/ns/mnt")).is_some_and(|theirs| Some(theirs) != own) {
            return false;
        }
        ancestor = parent_of(ancestor);
    }
    inode("/proc/self/ns/pid".to_owned()) == Some(FIRST_PID_NAMESPACE)
}

/// `PPid` of `proc_pid_status(5)`; 0: it has none, or is gone.
fn parent_of(pid: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Pid::from_raw(parent.and_then(|parent| parent.trim().parse().ok()).unwrap_or(0))
}
