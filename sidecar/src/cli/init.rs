//! `sidecar init`: arm a Pod and exit; what is armed stays until `sidecar detach`.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, getppid};

use crate::arm;
use crate::bpf::probe;
use crate::config::{Config, Mode};
use crate::detach::undo;
use crate::host::cgroup::{CgroupPath, Hierarchy};
use crate::host::seed;
use crate::instance::{
    CGROUP_MOUNT, CONTROL_SOCKET, Instance, InstanceName, Owner, PROXY_DIRECTORY, RUN_DIRECTORY,
};
use crate::iptables;
use crate::kubernetes::annotations::Overrides;
use crate::pod::{self, Bypass, PROXY_UID, Pod};

/// `sidecar init`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration: a file, or a directory of files
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name by which `connections` and `detach` know this instance
    #[arg(long, default_value = "pod")]
    name: InstanceName,
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
    let mut instance = Instance::claim(Path::new(RUN_DIRECTORY), args.name.clone(), Owner::Nobody)?;
    match arm(args, &config, &mut instance) {
        Ok(()) => {
            instance.stay();
            Ok(super::DONE)
        }
        Err(error) => {
            if let Err(left) = undo(instance.directory(), &instance.state) {
                instance.stay();
                return Err(error.context(format!("{left}; run `sidecar detach {}`", args.name)));
            }
            Err(error)
        }
    }
}

fn arm(args: &Args, config: &Config, instance: &mut Instance) -> anyhow::Result<()> {
    give_the_proxy_a_place(instance.directory(), args.uid)?;
    instance.state.netns = seed::own_netns().unwrap_or_default();
    let own = pod::ports(config.ports);
    match config.interception.mode {
        Mode::Ebpf => {
            let hierarchy = Hierarchy::find(&instance.directory().join(CGROUP_MOUNT))?;
            let cgroup = match &args.cgroup {
                Some(path) => hierarchy.named(path)?,
                None => above(&hierarchy)?,
            };
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
            let rules = iptables::install(&arm::rules(config, args.name.as_str(), &own, exempt, None, true))?;
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
