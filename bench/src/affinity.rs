//! On which processors processes run.

use std::fs;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::case::Pinning;

/// How many processors a proxy has that is kept from client and server.
pub(crate) const PROXIES: usize = 1;

/// The processors that this process may use, in order.
pub(crate) fn available() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// Runs this process, which has but one thread yet, on `cpu` alone.
pub(crate) fn pin_this_process(cpu: usize) -> Result<()> {
    Ok(sched_setaffinity(Pid::from_raw(0), &set(&[cpu])?)?)
}

/// Lets every thread of `pid` run on `cpus`.
pub(crate) fn allow(pid: u32, cpus: &[usize]) -> Result<()> {
    let set = set(cpus)?;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).context("a proxy has ended")? {
        let thread = entry?.file_name().to_string_lossy().parse()?;
        match sched_setaffinity(Pid::from_raw(thread), &set) {
            // A thread may end at any time.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("pin thread {thread}")),
        }
    }
    Ok(())
}

/// The processors of client, server and proxy; None is any.
pub(crate) fn places(pinning: Pinning, available: &[usize]) -> Option<[Option<usize>; 3]> {
    let (first, second) = (available.first().copied(), available.get(1).copied());
    match pinning {
        Pinning::Free => Some([None; 3]),
        Pinning::One => first.map(|_| [first; 3]),
        Pinning::Apart => second.map(|_| [second, first, first]),
        Pinning::ProxyApart => second.map(|_| [second, second, first]),
    }
}

fn set(cpus: &[usize]) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|&cpu| set.set(cpu))?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_processor_cannot_keep_the_client_apart() {
        assert_eq!(places(Pinning::Apart, &[3]), None);
        assert_eq!(places(Pinning::Apart, &[3, 5]), Some([Some(5), Some(3), Some(3)]));
        assert_eq!(places(Pinning::ProxyApart, &[3, 5]), Some([Some(5), Some(5), Some(3)]));
        assert_eq!(places(Pinning::One, &[3]), Some([Some(3); 3]));
    }

    #[test]
    fn threads_are_moved_and_moved_back() {
        let all = available().unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            ready.send(()).unwrap();
            asked.recv().unwrap();
            available().unwrap()
        });
        is_ready.recv().unwrap();
        allow(std::process::id(), &all[..1]).unwrap();
        ask.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), all[..1]);
        allow(std::process::id(), &all).unwrap();
        assert_eq!(available().unwrap(), all);
    }
}
