//! Where and when a run was made.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nix::sys::utsname::uname;
use serde::Serialize;

/// What figures depend on besides the code.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory: String,
    pub(crate) congestion_control: String,
    /// The average number of runnable processes in the minute before: what else the machine did.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn new(processors: usize) -> Result<Self> {
        let field = |file: &str, name: &str| -> String {
            let text = fs::read_to_string(file).unwrap_or_default();
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
            value.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            date: said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])),
            commit: said(
                Command::new("git")
                    .args(["describe", "--always", "--dirty", "--abbrev=10"])
                    .current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))),
            ),
            kernel: uname()?.release().to_string_lossy().into_owned(),
            processor: field("/proc/cpuinfo", "model name"),
            processors,
            memory: field("/proc/meminfo", "MemTotal"),
            congestion_control: congestion.trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// What a command prints; "unknown" when it cannot.
fn said(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    output.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
