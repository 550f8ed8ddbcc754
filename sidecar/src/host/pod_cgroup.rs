//! The cgroup of a Pod, found by the Pod's UID, whichever driver the kubelet uses for cgroups.

use std::collections::VecDeque;
use std::fs;

use serde::{Deserialize, Serialize};

use super::cgroup::{CgroupPath, Hierarchy};

/// A kubelet's own cgroups may be below others (`--cgroup-root`), by so many levels at most.
const MAX_DEPTH: usize = 8;
/// Kubernetes' own are 36 characters; static Pods have a hash.
const MAX_UID: usize = 60;

/// A Pod's UID. Safe in paths and names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodUid(String);

/// What is no UID.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Pod UID {0:?}: expected letters, digits and `-`, as in metadata.uid")]
pub struct NotAUid(String);

// === impl PodUid ===

impl PodUid {
    /// As the API has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PodUid {
    type Error = NotAUid;

    fn try_from(uid: String) -> Result<Self, NotAUid> {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if (1..=MAX_UID).contains(&uid.len()) && uid.chars().all(fine) {
            Ok(Self(uid))
        } else {
            Err(NotAUid(uid))
        }
    }
}

impl std::str::FromStr for PodUid {
    type Err = NotAUid;

    fn from_str(uid: &str) -> Result<Self, NotAUid> {
        uid.to_owned().try_into()
    }
}

impl From<PodUid> for String {
    fn from(uid: PodUid) -> Self {
        uid.0
    }
}

impl std::fmt::Display for PodUid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The cgroup that holds all containers of a Pod; `None`: there is none (yet, or any more). Reads the directories above
/// those of Pods, and looks into no Pod.
pub fn find(hierarchy: &Hierarchy, uid: &PodUid) -> Option<CgroupPath> {
    let mut waiting = VecDeque::from([(CgroupPath::root(), 0)]);
    while let Some((cgroup, depth)) = waiting.pop_front() {
        for entry in fs::read_dir(hierarchy.directory(&cgroup)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let (Some(name), true) = (name.to_str(), entry.file_type().is_ok_and(|kind| kind.is_dir()))
            else {
                continue;
            };
            if is_of(name, uid) {
                return Some(cgroup.child(name));
            }
            if depth < MAX_DEPTH && may_hold_pods(name) {
                waiting.push_back((cgroup.child(name), depth + 1));
            }
        }
    }
    None
}

/// `pod<uid>` by the driver cgroupfs; `kubepods[-<class>]-pod<uid>.slice` by systemd, which takes `-` for a level and so
/// has `_` in its place.
fn is_of(name: &str, uid: &PodUid) -> bool {
    match name.strip_suffix(".slice") {
        None => name.strip_prefix("pod") == Some(uid.as_str()),
        Some(slice) => {
            slice.rsplit_once("-pod").is_some_and(|(_, found)| found == uid.as_str().replace('-', "_"))
        }
    }
}

/// Not another Pod, and no service or container.
fn may_hold_pods(name: &str) -> bool {
    let ends = [".service", ".scope", ".mount", ".socket"].iter().any(|unit| name.ends_with(unit));
    let pod = name.strip_suffix(".slice").map_or(name.starts_with("pod"), |slice| slice.contains("-pod"));
    !ends && !pod
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f6d4f0e-8f5a-4b5c-9a77-3d6a3e6b8a11";
    const OTHER: &str = "1f6d4f0e-8f5a-4b5c-9a77-3d6a3e6b8a11";

    fn found(paths: &[String]) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let hierarchy = Hierarchy { root: root.path().to_owned() };
        find(&hierarchy, &UID.parse().unwrap()).map(|path| path.as_path().display().to_string())
    }

    #[test]
    fn by_either_driver_and_in_every_class() {
        let underscores = UID.replace('-', "_");
        for path in [
            format!("kubepods/pod{UID}"),
            format!("kubepods/burstable/pod{UID}"),
            format!("kubepods/besteffort/pod{UID}"),
            format!("kubelet/kubepods/besteffort/pod{UID}"),
            format!("kubepods.slice/kubepods-pod{underscores}.slice"),
            format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{underscores}.slice"),
            format!(
                "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{underscores}.slice"
            ),
        ] {
            let beside =
                [format!("kubepods/burstable/pod{OTHER}/container"), "system.slice/a.service".into()];
            let container = format!("{path}/cri-containerd-1.scope");
            assert_eq!(found(&[&beside[..], &[container]].concat()), Some(path));
        }
    }

    #[test]
    fn another_pod_is_not_it() {
        let underscores = OTHER.replace('-', "_");
        for path in [
            format!("kubepods/pod{OTHER}"),
            format!("kubepods/pod{UID}0"),
            format!("kubepods.slice/kubepods-pod{underscores}.slice"),
            // What a container makes for itself.
            format!("kubepods/pod{OTHER}/container/pod{UID}"),
            format!("system.slice/a.service/pod{UID}"),
        ] {
            assert_eq!(found(std::slice::from_ref(&path)), None, "{path}");
        }
    }

    #[test]
    fn a_uid_is_safe_in_paths() {
        for bad in ["", "..", "a/b", "a_b", "a.b", &"x".repeat(61)] {
            assert!(bad.parse::<PodUid>().is_err(), "{bad:?}");
        }
        for good in [UID, "e3f1d4c5b6a7988899aabbccddeeff00"] {
            assert_eq!(good.parse::<PodUid>().unwrap().to_string(), good);
        }
    }
}
