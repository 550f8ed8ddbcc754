//! What Pods leave on a node: a container cannot remove its pins when its Pod ends, and the kernel detaches links from a
//! cgroup and a network namespace that go, but keeps what is pinned.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bpf::attach::ProgramName;
use crate::bpf::pins::{self, PinDirectory};
use crate::bpf::{BpfError, link};
use crate::instance::{self, InstanceName};

/// Instances of Pods are named so, followed by the Pod's UID.
pub const PREFIX: &str = "pod-";
/// A directory without any link belongs to somebody who is just arming, unless it is older.
const ARMING: Duration = Duration::from_secs(60);

/// Removes the pins and the directories of Pods that are gone, but for those that somebody looks after who knows more.
/// Returns the names of those that were there, and what went wrong with some.
pub fn gone(
    run_directory: &Path,
    looked_after: impl Fn(&str) -> bool,
) -> Vec<(String, Result<(), BpfError>)> {
    let of_pods = pins::directories().into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        (name.starts_with(PREFIX) && !looked_after(&name)).then_some((name, path))
    });
    of_pods.filter_map(|(name, path)| Some((name.clone(), one(run_directory, &name, path)?))).collect()
}

/// `None`: the Pod is there.
fn one(run_directory: &Path, name: &str, path: PathBuf) -> Option<Result<(), BpfError>> {
    match is_gone(&path) {
        Ok(false) => return None,
        Ok(true) => {}
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return None,
        Err(cause) => return Some(Err(BpfError::File { operation: "look at the pins in", path, cause })),
    }
    let removed = pins::remove(&PinDirectory { path, mounted: false });
    if removed.is_ok() && name.parse::<InstanceName>().is_ok() {
        let directory = run_directory.join(name);
        if directory.is_dir()
            && let Err(error) = instance::remove(&directory)
        {
            tracing::warn!(%error, "the directory of a Pod that is gone stays");
        }
    }
    Some(removed)
}

/// Whether a Pod is gone whose links are pinned in `path`: they are detached from its network namespace, which its
/// containers hold, or from its cgroup. (The cgroup may stay for ever: on a hybrid host the kubelet removes that of version 1 only.)
pub fn is_gone(path: &Path) -> io::Result<bool> {
    let links = pins::links(path)?;
    if links.is_empty() {
        let age = fs::metadata(path)?.modified()?.elapsed().unwrap_or_default();
        return Ok(age > ARMING);
    }
    let lookup = ProgramName::Lookup.symbol();
    let of_netns = |(path, _): &(PathBuf, OwnedFd)| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(lookup))
    };
    let (of_netns, of_cgroup): (Vec<_>, Vec<_>) = links.into_iter().partition(of_netns);
    Ok(are_detached(&of_netns)? || are_detached(&of_cgroup)?)
}

/// Of none nothing can be said.
fn are_detached(links: &[(PathBuf, OwnedFd)]) -> io::Result<bool> {
    for (_, link) in links {
        if link::is_attached(link)? {
            return Ok(false);
        }
    }
    Ok(!links.is_empty())
}
