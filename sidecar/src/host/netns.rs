//! Network namespaces of others, by the inode that names them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Does `work` in a network namespace, on a thread of its own. `Ok(None)`: nothing holds the namespace any more.
/// Needs CAP_SYS_ADMIN if the namespace is not this one.
pub fn within<T: Send>(inode: u64, work: impl FnOnce() -> T + Send) -> io::Result<Option<T>> {
    let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == inode);
    let Some(path) = holders().find(is_it) else { return Ok(None) };
    inside(&File::open(path)?, work).map(Some)
}

/// Does `work` in an open network namespace, on a thread of its own. Needs CAP_SYS_ADMIN.
pub fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let enter = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    // The thread alone moves, and ends.
    thread::scope(|scope| match scope.spawn(enter).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Whatever may hold a network namespace: this process, names given by ip-netns(8), other processes.
fn holders() -> impl Iterator<Item = PathBuf> {
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
    let named = entries("/run/netns").map(|entry| entry.path());
    let processes = entries("/proc").map(|entry| entry.path().join("ns/net"));
    [PathBuf::from("/proc/self/ns/net")].into_iter().chain(named).chain(processes)
}
