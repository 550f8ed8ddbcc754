//! Processor time.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// Seconds of processor time between two readings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Cpu {
    /// In which a processor of the machine was busy, with whatever. Has what the kernel does in interrupts.
    pub(crate) machine: f64,
    /// That some processes took.
    pub(crate) processes: f64,
    /// That the proxy took, if there is one.
    pub(crate) proxy: Option<f64>,
}

/// The processes that count.
#[derive(Clone, Default, Debug)]
pub(crate) struct Watched {
    /// All of them.
    pub(crate) pids: Vec<u32>,
    /// The one among them that is the proxy.
    pub(crate) proxy: Option<u32>,
}

/// The counters at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Instant,
    processors: f64,
    /// Seconds of all processors in which they had nothing to do, or were not there.
    idle: f64,
    /// Seconds of the processes.
    used: f64,
    /// Seconds of the proxy.
    proxy: Option<f64>,
}

impl Reading {
    /// The counters now.
    #[allow(clippy::cast_precision_loss, reason = "clock ticks of some years")]
    pub(crate) fn now(watched: &Watched) -> Result<Self> {
        let ticks = sysconf(SysconfVar::CLK_TCK)?.context("no CLK_TCK")? as f64;
        let (processors, idle) =
            idle(&fs::read_to_string("/proc/stat")?).context("/proc/stat has another format")?;
        let at = Instant::now();
        let mut sum = 0;
        for pid in &watched.pids {
            let path = format!("/proc/{pid}/stat");
            let line = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            sum += used(&line).with_context(|| format!("{path} has another format"))?;
        }
        let proxy = watched.proxy.map(scheduled).transpose()?;
        Ok(Self {
            at,
            processors: processors as f64,
            idle: idle as f64 / ticks,
            used: sum as f64 / ticks,
            proxy,
        })
    }

    /// What was used since `earlier`. The kernel samples what a processor is busy with, but knows exactly how long it
    /// was idle: busy is the rest.
    pub(crate) fn since(&self, earlier: &Self) -> Cpu {
        let time = (self.at - earlier.at).as_secs_f64() * self.processors;
        Cpu {
            machine: (time - (self.idle - earlier.idle)).max(0.0),
            processes: self.used - earlier.used,
            proxy: self.proxy.zip(earlier.proxy).map(|(now, then)| now - then),
        }
    }
}

/// How many processors there are, and the ticks in which they were idle, waited for a disk or were taken away by the
/// hypervisor (proc(5), /proc/stat).
fn idle(stat: &str) -> Option<(usize, u64)> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let [_user, _nice, _system, idle, iowait, _irq, _softirq, steal, ..] = fields.as_slice() else {
        return None;
    };
    let processors = stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
    Some((processors, idle + iowait + steal))
}

/// Ticks of a process and all its threads (proc(5), /proc/pid/stat): utime and stime.
fn used(stat: &str) -> Option<u64> {
    // The program's name is in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Seconds for which the threads of a process had a processor, to the nanosecond (Documentation/scheduler/sched-stats.rst).
#[allow(clippy::cast_precision_loss, reason = "nanoseconds of some days")]
fn scheduled(pid: u32) -> Result<f64> {
    let mut sum = 0_u64;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("a proxy has ended")? {
        // A thread may end at any time.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let nanoseconds = text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
        sum += nanoseconds.context("schedstat has another format")?;
    }
    Ok(sum as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        assert_eq!(idle("cpu  1 2 4 1000 2000 8 16 4000 0 0\ncpu0 1\ncpu1 1\nintr 7\n"), Some((2, 7000)));
        assert_eq!(idle("intr 1"), None);
    }

    #[test]
    fn busy_is_what_was_not_idle() {
        let at = Instant::now();
        let earlier = Reading { at, processors: 2.0, idle: 10.0, used: 1.0, proxy: Some(1.0) };
        let later =
            Reading { at: at + Duration::from_secs(4), idle: 15.0, used: 2.0, proxy: Some(1.5), ..earlier };
        assert_eq!(later.since(&earlier), Cpu { machine: 3.0, processes: 1.0, proxy: Some(0.5) });
    }

    #[test]
    fn a_program_may_be_called_anything() {
        assert_eq!(used("7 (a) b) S 1 7 7 0 -1 4194560 99 0 0 0 30 12 5 6 20 0"), Some(42));
    }

    #[test]
    fn this_process_takes_time() {
        let this = std::process::id();
        let watched = Watched { pids: vec![this], proxy: Some(this) };
        let before = Reading::now(&watched).unwrap();
        let now = || Reading::now(&watched).unwrap().since(&before);
        while now().processes < 0.02 {}
        assert!(now().proxy.unwrap() > 0.005);
    }
}
