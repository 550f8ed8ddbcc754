//! Listeners that were there before their cgroup was armed: found in /proc, since sockets do not tell afterwards.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use sidecar_common::flow::Program;

use crate::host::cgroup;

/// A listening socket, and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Names the socket while it is open.
    pub inode: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// Who listens.
    pub program: Program,
}

/// The inode of this thread's network namespace, which names it.
pub fn own_netns() -> Option<u64> {
    namespace("/proc/thread-self/ns/net").ok()
}

/// The inode of the machine's first network namespace; `None`: we are not allowed to know.
pub fn netns_of_init() -> Option<u64> {
    namespace("/proc/1/ns/net").ok()
}

/// Whose listeners are none of programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Except<'a> {
    /// Those of processes in this cgroup and below it.
    Cgroup(&'a Path),
    /// Those of this user's processes.
    User(u32),
}

/// The listeners of the processes in a cgroup and below it, but for the proxy's, that are in this thread's network
/// namespace. A process that ends meanwhile is left out.
///
/// # Errors
///
/// EACCES or EPERM: a process's files are not ours to see, and it may have listeners.
pub fn listeners(directory: &Path, proxy: Except<'_>) -> io::Result<Vec<Found>> {
    let Some(netns) = own_netns() else { return Ok(Vec::new()) };
    let own = match proxy {
        Except::Cgroup(path) => cgroup::members_below(path),
        Except::User(_) => Vec::new(),
    };
    let is_proxy = |pid: Pid| match proxy {
        Except::Cgroup(_) => own.contains(&pid),
        Except::User(user) => fs::metadata(format!("/proc/{pid}")).is_ok_and(|of| of.uid() == user),
    };
    let mut by_inode = listening_inodes();
    let mut found = Vec::new();
    for pid in cgroup::members_below(directory).into_iter().filter(|pid| !is_proxy(*pid)) {
        // A socket that several processes share is counted once: it is one listener.
        let program = program(pid);
        for inode in sockets_within(netns, pid).or_else(|error| unless_it_ends(pid, error))? {
            found.extend(by_inode.remove(&inode).map(|address| Found { inode, address, program }));
        }
    }
    Ok(found)
}

/// The listening sockets of this thread's network namespace, by inode.
pub fn listening_inodes() -> HashMap<u64, SocketAddr> {
    let mut by_inode = HashMap::new();
    for (file, v4) in [("/proc/thread-self/net/tcp", true), ("/proc/thread-self/net/tcp6", false)] {
        let text = fs::read_to_string(file).unwrap_or_default();
        by_inode.extend(text.lines().skip(1).filter_map(|line| listening(line, v4)));
    }
    by_inode
}

fn namespace(path: &str) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| metadata.ino())
}

/// The sockets of a process, by inode, if it is in this network namespace.
fn sockets_within(netns: u64, pid: Pid) -> io::Result<Vec<u64>> {
    if namespace(&format!("/proc/{pid}/ns/net"))? != netns {
        return Ok(Vec::new());
    }
    let inode_of = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().filter_map(inode_of).collect())
}

/// What cannot be seen of a process matters only while it has memory: later it is ending, and its files are root's.
fn unless_it_ends(pid: Pid, error: io::Error) -> io::Result<Vec<u64>> {
    let ends = match fs::read_to_string(format!("/proc/{pid}/statm")) {
        Ok(memory) => memory.starts_with("0 "),
        Err(_) => kill(pid, None) == Err(Errno::ESRCH),
    };
    if ends || error.kind() != io::ErrorKind::PermissionDenied { Ok(Vec::new()) } else { Err(error) }
}

fn program(pid: Pid) -> Program {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut comm = [0; 16];
    let name = name.trim_end().as_bytes();
    let length = name.len().min(comm.len() - 1);
    comm[..length].copy_from_slice(&name[..length]);
    Program { cgroup: 0, pid: u32::try_from(pid.as_raw()).unwrap_or_default(), reserved: 0, comm }
}

/// A line of /proc/net/tcp or tcp6 (`proc_pid_net(5)`): the inode and the address, if the socket listens.
fn listening(line: &str, v4: bool) -> Option<(u64, SocketAddr)> {
    /// `TCP_LISTEN` (include/net/tcp_states.h), in hexadecimal.
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    (*state == LISTEN).then_some(())?;
    let (ip, port) = local.split_once(':')?;
    // Words in host order of an address in network order.
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = if v4 {
        Ipv4Addr::from(word(ip)?).into()
    } else {
        let mut octets = [0; 16];
        for (i, chunk) in octets.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&word(ip.get(i * 8..i * 8 + 8)?)?);
        }
        Ipv6Addr::from(octets).into()
    };
    Some((inode.parse().ok()?, SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_listeners_of_proc_net_tcp() {
        let listen = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0";
        assert_eq!(listening(listen, true), Some((12345, "127.0.0.1:8080".parse().unwrap())));
        let established = listen.replace(" 0A ", " 01 ");
        assert_eq!(listening(&established, true), None);
        let v6 = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 7 1 0 100";
        assert_eq!(listening(v6, false), Some((7, "[::1]:80".parse().unwrap())));
    }
}
