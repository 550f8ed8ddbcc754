//! Network namespaces.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use crate::{Finished, Place};

/// Where iproute2 keeps the names.
const DIRECTORY: &str = "/run/netns";

/// Begins the name of everything that the harness makes; the pid of the test's process follows.
const PREFIX: &str = "sct-";

/// A network namespace of its own with loopback up, deleted when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace; `hint` is the readable part of its unique name.
    pub fn new(hint: &str) -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let netns = Self { name: unique(hint) };
        ip(&["netns", "add", &netns.name]);
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Its inode number, by which the kernel's listings name it.
    pub fn inode(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(self.path()).unwrap())
    }

    /// The place inside; the file system stays the test's own.
    pub fn place(&self) -> Place {
        Place::default().in_netns(&self.path())
    }

    /// Like `ip netns exec`, which also replaces /sys, so that a cgroup mount below it is out of sight (ip-netns(8)).
    pub fn ip_netns_exec(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `ip` on it.
    #[track_caller]
    pub fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.name], args].concat());
    }

    /// Sets one of its own kernel parameters: `net/ipv4/tcp_fastopen`.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: &str) {
        // /proc/sys/net is that of the network namespace of whoever looks (proc_sys(5)).
        self.enter(|| std::fs::write(Path::new("/proc/sys").join(name), value))
            .unwrap_or_else(|error| panic!("set {name}: {error}"));
    }

    /// Runs `closure` in a thread inside, so that the sockets that it makes belong here.
    pub fn enter<T: Send>(&self, closure: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).unwrap();
        let inside = move || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            closure()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// A name that no other test of this machine has.
pub(crate) fn unique(hint: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}-{hint}", std::process::id())
}

#[track_caller]
pub(crate) fn ip(args: &[&str]) {
    Finished::of(Command::new("ip").args(args)).success();
}

fn delete(name: &str) {
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(std::process::Stdio::null()).status();
}

/// Deletes the namespaces of test processes that were killed before they could.
fn sweep() {
    for entry in std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            delete(&name);
        }
    }
}

/// The process that made a name by [`unique`].
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok().map(|_number| pid)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::require;

    #[test]
    fn is_apart_from_the_machine_and_gone_when_dropped() {
        require!(root);
        let netns = Netns::new("apart");
        let path = netns.path();
        let (listener, port) = netns.enter(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            TcpStream::connect(("127.0.0.1", port)).unwrap();
            (listener, port)
        });
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the namespace leaks");
        drop((listener, netns));
        assert!(!path.exists());
    }

    #[test]
    fn is_deleted_by_a_panic() {
        require!(root);
        let (sender, receiver) = std::sync::mpsc::channel();
        let panic = std::panic::catch_unwind(|| {
            let netns = Netns::new("panic");
            sender.send(netns.path()).unwrap();
            panic!("on purpose");
        });
        assert!(panic.is_err());
        assert!(!receiver.recv().unwrap().exists());
    }

    #[test]
    fn names_never_repeat_and_tell_their_owner() {
        assert_ne!(unique("x"), unique("x"));
        assert_eq!(owner(&unique("x")), Some(std::process::id()));
        assert_eq!(owner("sct-pod"), None);
        assert_eq!(owner("sct-1-pod"), None);
    }

    #[test]
    fn programs_run_inside_by_either_way() {
        require!(root);
        let netns = Netns::new("inside");
        let inode = format!("net:[{}]\n", netns.inode());
        let entered = Finished::of(netns.place().command("readlink").arg("/proc/self/ns/net"));
        let executed = Finished::of(netns.ip_netns_exec("readlink").arg("/proc/self/ns/net"));
        assert_eq!((entered.success(), executed.success()), (inode.clone(), inode));
    }
}
