//! What an instance leaves in the kernel and in the file system, so that a test can say that it is gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::wait::{DEADLINE, eventually};
use crate::{Finished, Netns, cgroup};

/// The kernel objects and files that belong to one instance. Numbers of kernel objects are not used again soon, so
/// "none of these is there" is a sound test beside other tests that load programs of their own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    /// Ids of bpf links to the instance's cgroups and network namespace.
    pub links: BTreeSet<u64>,
    /// Ids of the programs of these links and of those that the process holds open.
    pub programs: BTreeSet<u64>,
    /// Ids of the maps of these programs.
    pub maps: BTreeSet<u64>,
    /// Cgroups named after the instance.
    pub cgroups: BTreeSet<String>,
    /// Mount points named after the instance.
    pub mounts: BTreeSet<String>,
    /// The instance's directory, when it is there.
    pub directory: bool,
}

impl Footprint {
    /// What is there now of the instance `name`, whose process is `pid`, in `netns`.
    pub fn of(name: &str, pid: i32, netns: &Netns) -> Self {
        let cgroups = cgroups(&cgroup::own(), &format!("sidecar-{name}"));
        let inodes: Vec<u64> = cgroups.iter().map(|path| inode(Path::new(path))).collect();
        let links: Vec<Value> = bpftool("link")
            .into_iter()
            .filter(|link| {
                link["cgroup_id"].as_u64().is_some_and(|id| inodes.contains(&id))
                    || link["netns_ino"].as_u64() == Some(netns.inode())
            })
            .collect();
        let linked = ids(&links, "prog_id");
        let programs: Vec<Value> = bpftool("prog")
            .into_iter()
            .filter(|program| {
                program["id"].as_u64().is_some_and(|id| linked.contains(&id)) || held(program, pid)
            })
            .collect();
        let maps = programs.iter().filter_map(|program| program["map_ids"].as_array()).flatten();
        Self {
            links: ids(&links, "id"),
            programs: ids(&programs, "id"),
            maps: maps.filter_map(Value::as_u64).collect(),
            mounts: mounts(name),
            directory: Path::new("/run/sidecar").join(name).exists(),
            cgroups,
        }
    }

    /// What of it is still there.
    #[must_use]
    pub fn remains(&self, name: &str) -> Self {
        let still = |kind, before: &BTreeSet<u64>| &ids(&bpftool(kind), "id") & before;
        Self {
            links: still("link", &self.links),
            programs: still("prog", &self.programs),
            maps: still("map", &self.maps),
            cgroups: cgroups(&cgroup::own(), &format!("sidecar-{name}")),
            mounts: mounts(name),
            directory: Path::new("/run/sidecar").join(name).exists(),
        }
    }
}

/// The iptables and ip6tables rules and chains of `netns`, without counters and comments. Tables and built-in chains
/// are left out: the kernel keeps them once somebody has looked.
pub fn rules(netns: &Netns) -> Vec<String> {
    let saved = |program| Finished::of(&mut netns.place().command(program)).success();
    ["iptables-save", "ip6tables-save"]
        .into_iter()
        .flat_map(|program| {
            let mut table = String::new();
            let mut rules = Vec::new();
            for line in saved(program).lines() {
                match line.as_bytes().first() {
                    Some(b'*') => line.clone_into(&mut table),
                    Some(b'-') => rules.push(format!("{program} {table} {line}")),
                    Some(b':') if line.contains(" - [") => {
                        let chain = line.split(' ').next().unwrap_or(line);
                        rules.push(format!("{program} {table} {chain}"));
                    }
                    _ => {}
                }
            }
            rules
        })
        .collect()
}

fn bpftool(kind: &str) -> Vec<Value> {
    // A link that somebody is just making has a number, and cannot be looked at yet: EAGAIN (`bpf_link_by_id`).
    let json = eventually(DEADLINE, &format!("a list of bpftool {kind}"), || {
        let listed = Finished::of(Command::new("bpftool").args(["--json", kind, "show"]));
        listed.status.success().then_some(listed.stdout)
    });
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("bpftool {kind}: {error}: {json}"))
}

fn ids(objects: &[Value], key: &str) -> BTreeSet<u64> {
    objects.iter().filter_map(|object| object[key].as_u64()).collect()
}

fn held(program: &Value, pid: i32) -> bool {
    let holders = program["pids"].as_array();
    holders.is_some_and(|holders| holders.iter().any(|holder| holder["pid"].as_i64() == Some(pid.into())))
}

fn cgroups(parent: &Path, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            let below = if entry.file_name() == name { "" } else { name };
            if below.is_empty() || path.parent().is_some_and(|parent| parent.ends_with(name)) {
                found.insert(path.to_string_lossy().into_owned());
            }
            found.extend(cgroups(&path, name));
        }
    }
    found
}

/// The number by which the kernel names a cgroup: its directory's inode.
fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
}

fn mounts(name: &str) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.split('/').any(|part| part == name)).map(str::to_owned).collect()
}
