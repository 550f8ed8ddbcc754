//! What a process holds.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long a proxy has had nothing to do before it is looked at: what it only keeps for a while is gone then.
pub(crate) const IDLE: Duration = Duration::from_secs(5);

/// Bytes of a process.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) resident: f64,
    /// Of it, what is no file: heap and stacks.
    pub(crate) anonymous: f64,
    /// The kernel's maps that it has open, if any, which are not resident in it.
    pub(crate) maps: Option<f64>,
}

impl Memory {
    /// Of `pid`.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name| kilobytes(&status, name).with_context(|| format!("no {name} in {path}"));
        Ok(Self { resident: field("VmRSS:")?, anonymous: field("RssAnon:")?, maps: maps(pid)? })
    }
}

/// A field of proc_pid_status(5), in bytes.
fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}

/// What the kernel has charged for each map that the process has open, counted once.
fn maps(pid: u32) -> Result<Option<f64>> {
    let mut seen = Vec::new();
    let mut bytes = 0.0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed at any time.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if let (Some(id), Some(charged)) = (field("map_id:"), field("memlock:"))
            && !seen.contains(&id)
        {
            seen.push(id);
            #[allow(clippy::cast_precision_loss, reason = "a machine's memory")]
            let charged = charged as f64;
            bytes += charged;
        }
    }
    Ok((!seen.is_empty()).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_bytes() {
        let status = "VmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(2048.0 * 1024.0));
        assert_eq!(kilobytes(status, "RssFile:"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.resident > memory.anonymous && memory.anonymous > 0.0, "{memory:?}");
    }
}
