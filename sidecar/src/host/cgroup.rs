//! Control groups, version 2 (cgroups(7)): finding the hierarchy, and an instance's own part of it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use crate::host::mounts;
use crate::instance::RUN_DIRECTORY;

/// How long processes that were killed are waited for.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const KILL_POLL: Duration = Duration::from_millis(5);

/// What can go wrong with cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// This process is in none.
    #[error(
        "no cgroup v2: mount it (mount -t cgroup2 none /sys/fs/cgroup) or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    Missing,
    /// Where it was said to be, it is not.
    #[error(
        "{}: no cgroup v2 there nor in `unified` below it: give the container the machine's /sys/fs/cgroup there",
        path.display()
    )]
    NotAHierarchy {
        /// Where it was said to be.
        path: PathBuf,
    },
    /// A path that is no cgroup.
    #[error("{}: no such cgroup: name a path from the root of the hierarchy, or a directory of it", path.display())]
    NotACgroup {
        /// What was named.
        path: PathBuf,
    },
    /// A file or directory of the hierarchy.
    #[error("{operation} {}: {cause}{}", path.display(), remedy(cause))]
    File {
        /// What was tried.
        operation: &'static str,
        /// The object.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
}

/// The mounted hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub root: PathBuf,
}

/// A cgroup, by its path relative to the hierarchy's root, without a leading slash.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct CgroupPath(PathBuf);

// === impl Hierarchy ===

impl Hierarchy {
    /// The hierarchy that is mounted already, if any. Private ones of instances do not count: they go with those.
    pub fn visible() -> Option<Self> {
        Self::mounted_at(|point| !point.starts_with(RUN_DIRECTORY))
    }

    /// Finds the hierarchy; mounts one on `fallback` if none is in sight (`ip netns exec` hides /sys).
    pub fn find(fallback: &Path) -> Result<Self, CgroupError> {
        if let Some(found) = Self::visible().or_else(|| Self::mounted_at(|point| point == fallback)) {
            return Ok(found);
        }
        Self::mounted_on(fallback)
    }

    /// Mounts the hierarchy, as far as this process's cgroup namespace lets see of it.
    pub fn mounted_on(fallback: &Path) -> Result<Self, CgroupError> {
        let failed = |cause: io::Error| CgroupError::File {
            operation: "mount cgroup2 on",
            path: fallback.to_owned(),
            cause,
        };
        fs::create_dir_all(fallback).map_err(failed)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        match mount(Some("cgroup2"), fallback, Some("cgroup2"), flags, None::<&str>) {
            Ok(()) => Ok(Self { root: fallback.to_owned() }),
            Err(Errno::ENODEV) => Err(CgroupError::Missing),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// The machine's hierarchy as a container sees it: `path` is where the machine's /sys/fs/cgroup is, which on hybrid
    /// hosts has version 2 in `unified`.
    pub fn at(path: &Path) -> Result<Self, CgroupError> {
        let is_it = |path: &PathBuf| statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
        let roots = [path.to_owned(), path.join("unified")];
        let root = roots.into_iter().find(is_it);
        root.map(|root| Self { root }).ok_or_else(|| CgroupError::NotAHierarchy { path: path.to_owned() })
    }

    fn mounted_at(wanted: impl Fn(&Path) -> bool) -> Option<Self> {
        let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let whole = |mount: &mounts::Mount| mount.root == Path::new("/") && wanted(&mount.point);
        mounts::of_type(&text, "cgroup2").find(whole).map(|mount| Self { root: mount.point })
    }

    /// The cgroup of this process.
    pub fn own(&self) -> Result<CgroupPath, CgroupError> {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).ok_or(CgroupError::Missing)?;
        Ok(CgroupPath(path.trim_start_matches('/').into()))
    }

    /// A cgroup that a user named: a directory of the hierarchy, or a path relative to its root.
    pub fn named(&self, path: &Path) -> Result<CgroupPath, CgroupError> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let relative = relative.strip_prefix("/").unwrap_or(relative);
        let cgroup = CgroupPath(relative.to_owned());
        let inside = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if inside && self.directory(&cgroup).join("cgroup.procs").exists() {
            Ok(cgroup)
        } else {
            Err(CgroupError::NotACgroup { path: path.to_owned() })
        }
    }

    /// The directory of a cgroup.
    pub fn directory(&self, cgroup: &CgroupPath) -> PathBuf {
        self.root.join(&cgroup.0)
    }

    /// The kernel's number of a cgroup, as `bpf_get_current_cgroup_id` gives it.
    pub fn id(&self, cgroup: &CgroupPath) -> Result<u64, CgroupError> {
        let path = self.directory(cgroup);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.ino()),
            Err(cause) => Err(CgroupError::File { operation: "look at", path, cause }),
        }
    }

    /// Kills all processes in a cgroup and below it.
    pub fn kill(&self, cgroup: &CgroupPath) {
        kill_members(&self.directory(cgroup));
    }

    /// Makes a cgroup. Fails when it exists.
    pub fn create(&self, cgroup: &CgroupPath) -> Result<(), CgroupError> {
        let path = self.directory(cgroup);
        fs::create_dir(&path).map_err(|cause| CgroupError::File {
            operation: "create the cgroup",
            path,
            cause,
        })
    }

    /// Moves this process, with all its threads.
    pub fn enter(&self, cgroup: &CgroupPath) -> Result<(), CgroupError> {
        let path = self.directory(cgroup).join("cgroup.procs");
        fs::write(&path, "0").map_err(|cause| CgroupError::File { operation: "write", path, cause })
    }

    /// Kills all processes in a cgroup and below it and removes it. Fine when it is gone.
    pub fn remove(&self, cgroup: &CgroupPath) -> Result<(), CgroupError> {
        let directory = self.directory(cgroup);
        let deadline = Instant::now() + KILL_PATIENCE;
        for path in with_descendants(&directory) {
            loop {
                match fs::remove_dir(&path) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    // Occupied: by processes that die soon.
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        kill_members(&path);
                        pause();
                    }
                    Err(cause) => {
                        return Err(CgroupError::File { operation: "remove the cgroup", path, cause });
                    }
                }
            }
        }
        Ok(())
    }
}

// === impl CgroupPath ===

impl CgroupPath {
    /// The root of the hierarchy.
    pub fn root() -> Self {
        Self(PathBuf::new())
    }

    /// A child.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// The cgroup above; `None`: this is the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_owned()))
    }

    /// True when `other` is this cgroup or below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Relative to the hierarchy's root.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

/// Unmounts a hierarchy that [`Hierarchy::find`] mounted, and removes the directory. Fine when it is gone, or mounted
/// in another mount namespace, with which it goes.
pub fn unmount(point: &Path) -> Result<(), CgroupError> {
    let failed = |operation| move |cause| CgroupError::File { operation, path: point.to_owned(), cause };
    match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT | Errno::EPERM) => {}
        Err(errno) => return Err(failed("unmount")(errno.into())),
    }
    match fs::remove_dir(point) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove")(error)),
        _ => Ok(()),
    }
}

/// The directory and all below it, the deepest first.
fn with_descendants(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(with_descendants(&entry.path()));
        }
    }
    found.push(directory.to_owned());
    found
}

#[expect(
    clippy::disallowed_methods,
    reason = "the processes are not our children: there is nothing to wait on"
)]
fn pause() {
    std::thread::sleep(KILL_POLL);
}

/// Sends SIGKILL to the processes in a cgroup and below it, but for this one. `cgroup.kill` does it at once, where it exists (Linux 5.14).
fn kill_members(directory: &Path) {
    let own = Pid::this();
    let members = members_below(directory);
    if !members.contains(&own) && fs::write(directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in members {
        if pid != own {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// The processes in a cgroup, not in those below it.
pub fn members(directory: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect()
}

/// The processes in a cgroup and in those below it.
pub fn members_below(directory: &Path) -> Vec<Pid> {
    with_descendants(directory).iter().flat_map(|path| members(path)).collect()
}

/// Whether a process is in a cgroup or below it; not in one that is gone (`cgroup.events`, Documentation/admin-guide/cgroup-v2.rst).
pub fn is_populated(directory: &Path) -> bool {
    let events = fs::read_to_string(directory.join("cgroup.events"));
    events.is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => ": run as root, or have the cgroup delegated to you",
        Some(libc::EEXIST) => ": another instance has the name; choose another --name",
        _ => "",
    }
}
