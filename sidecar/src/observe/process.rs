//! The `process_*` metrics, as all Prometheus client libraries name them. What /proc does not tell is left out.

use std::fmt;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads /proc/self at each scrape.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut write = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        if let Some(times) = Times::read() {
            let cpu = ConstCounter::new(times.cpu_seconds);
            write("process_cpu_seconds", "User and system CPU time in seconds", &cpu)?;
            let start = ConstGauge::new(times.start_seconds);
            write("process_start_time_seconds", "When the process started, in seconds since 1970", &start)?;
        }
        if let Some(bytes) = resident_bytes() {
            write("process_resident_memory_bytes", "Resident memory in bytes", &ConstGauge::new(bytes))?;
        }
        if let Some(open) = open_fds() {
            write("process_open_fds", "Open file descriptors", &ConstGauge::new(open))?;
        }
        if let Some(max) = max_fds() {
            write("process_max_fds", "How many file descriptors may be open", &ConstGauge::new(max))?;
        }
        Ok(())
    }
}

struct Times {
    cpu_seconds: f64,
    start_seconds: f64,
}

impl Times {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is a name in parentheses that may contain anything; proc_pid_stat(5) counts from 1.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let per_second = f64::from(i32::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?);
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / per_second,
            start_seconds: boot + ticks(22)? / per_second,
        })
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn open_fds() -> Option<u64> {
    // One of them is the directory's own.
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?.checked_sub(1)
}

fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn proc_is_understood() {
        let times = Times::read().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(times.cpu_seconds >= 0.0 && times.cpu_seconds < 3600.0, "{}", times.cpu_seconds);
        let age = now - times.start_seconds;
        // The kernel's boot time is rounded to seconds, and the test's process is young.
        assert!((-2.0..3600.0).contains(&age), "{age}");
        assert!(resident_bytes().unwrap() > 1024 * 1024);
        assert!(max_fds().unwrap() >= open_fds().unwrap());
    }

    #[test]
    fn an_open_file_shows() {
        // Other tests open and close files at the same time: enough of them to stand out.
        let before = open_fds().unwrap();
        let files: Vec<_> = (0..200).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_fds().unwrap() > before + 100);
        drop(files);
    }
}
