//! Where links are pinned, and for a proxy of another user the bypass: a directory on a bpffs.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::attach::ProgramName;
use super::{BpfError, link, node};
use crate::instance::{RUN_DIRECTORY, STATE_FILE};

/// A directory for pins, and whether we mounted the file system that holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinDirectory {
    /// The directory.
    pub path: PathBuf,
    /// It is the root of a bpffs of this instance's own.
    pub mounted: bool,
}

/// Makes the directory: below a bpffs that is there, or else on one of our own, mounted in the instance's directory.
/// A bpffs of our own is only seen in this mount namespace, and goes with it.
pub fn create(instance: &str, instance_directory: &Path) -> Result<PinDirectory, BpfError> {
    let file_error = |operation: &'static str, path: &Path, cause: io::Error| BpfError::File {
        operation,
        path: path.to_owned(),
        cause,
    };
    if let Some(bpffs) = mounted_bpffs() {
        let path = bpffs.join("sidecar").join(instance);
        make(&path).map_err(|e| file_error("create the pin directory", &path, e))?;
        return Ok(PinDirectory { path, mounted: false });
    }
    let path = instance_directory.join("bpf");
    fs::create_dir_all(&path).map_err(|e| file_error("create the mount point", &path, e))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), &path, Some("bpf"), flags, Some("mode=0711"))
        .map_err(|errno| file_error("mount bpffs on", &path, errno.into()))?;
    Ok(PinDirectory { path, mounted: true })
}

/// Makes a directory and the one that holds all. The last instance to go takes that along, which may be just between the two
/// steps: then once more.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let once = || fs::create_dir_all(path);
    once().or_else(|error| if error.kind() == io::ErrorKind::NotFound { once() } else { Err(error) })
}

/// Removes a pin directory with all that is pinned in it. Fine when it is gone.
pub fn remove(directory: &PinDirectory) -> Result<(), BpfError> {
    let path = &directory.path;
    let result = if directory.mounted {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL: not a mount point in this mount namespace.
            Ok(()) | Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
        .and_then(|()| gone(fs::remove_dir(path)))
    } else {
        gone(fs::remove_dir_all(path)).map(|()| {
            // Ours when it is empty; another instance may be in it.
            if let Some(parent) = path.parent() {
                node::remove_unused(parent);
                let _ = fs::remove_dir(parent);
            }
        })
    };
    result.map_err(|cause| BpfError::File { operation: "remove the pins in", path: path.clone(), cause })
}

/// The links that are pinned in a directory, with their paths. Other pins are left out.
pub fn links(directory: &Path) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if program_of(&entry.file_name().to_string_lossy()).is_some() {
            let path = entry.path();
            found.push((path.clone(), link::open(&path)?));
        }
    }
    Ok(found)
}

/// Takes programs off that are pinned in a directory, with their pins. Fine when they are gone.
pub fn take_off(directory: &Path, programs: &[ProgramName]) -> Result<(), BpfError> {
    let failed = |cause| BpfError::File { operation: "take off links in", path: directory.to_owned(), cause };
    for (path, link) in links(directory).map_err(failed)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if program_of(&name).is_some_and(|name| programs.iter().any(|program| program.symbol() == name)) {
            // In this order: who collects takes a Pod for gone whose pinned link is detached.
            gone(fs::remove_file(&path)).map_err(failed)?;
            link::detach_open(&link).map_err(failed)?;
        }
    }
    Ok(())
}

/// The directories of instances on a mounted bpffs.
pub fn directories() -> Vec<PathBuf> {
    let Some(bpffs) = mounted_bpffs() else { return Vec::new() };
    let entries = fs::read_dir(bpffs.join("sidecar")).into_iter().flatten().flatten();
    let of_instances = entries.filter(|entry| !node::is_of_all(&entry.file_name().to_string_lossy()));
    of_instances.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Links are pinned under the program's name and a number.
fn program_of(name: &str) -> Option<&str> {
    let (program, number) = name.rsplit_once('-')?;
    number.parse::<usize>().ok().map(|_| program)
}

pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The first mounted bpffs, the usual place first.
pub(super) fn mounted_bpffs() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut found: Vec<PathBuf> =
        crate::host::mounts::of_type(&mounts, "bpf").map(|mount| mount.point).collect();
    // A private one of another instance is not a place for ours: it goes with that.
    let is_private =
        |point: &PathBuf| point.parent().is_some_and(|directory| directory.join(STATE_FILE).exists());
    found.retain(|point| !point.starts_with(RUN_DIRECTORY) && !is_private(point));
    let usual = Path::new("/sys/fs/bpf");
    found
        .iter()
        .position(|point| point == usual)
        .map(|i| found.swap_remove(i))
        .or_else(|| found.into_iter().next())
}
