//! Runs the programs of iptables, of either family.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use super::IptablesError;
use super::rules::Family;

/// What can be done about IPv6 here.
pub(super) enum Ipv6 {
    /// Rules can be written.
    Usable,
    /// There is none to capture.
    Off,
    /// There is, but ip6tables does not work.
    Unusable(IptablesError),
}

/// How long to wait for the xtables lock, in seconds. The nft variant has no such lock and retries by itself.
const LOCK_WAIT: &str = "5";

/// More of what a program says does not help.
const STDERR_CHARS: usize = 300;

/// Carries out `text`, all of it or nothing, and leaves everything else in the table as it is.
pub(super) fn restore(family: Family, text: &str) -> Result<(), IptablesError> {
    let program = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    tracing::debug!(program, text);
    run(program, &["--noflush", "-w", LOCK_WAIT], text).map(|_| ())
}

/// The nat table as it is.
pub(super) fn save(family: Family) -> Result<String, IptablesError> {
    let program = match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    };
    run(program, &["-t", "nat"], "")
}

/// Which iptables this is.
pub(super) fn version() -> Result<String, IptablesError> {
    run("iptables-restore", &["--version"], "").map(|line| line.trim().to_owned())
}

/// Whether there is IPv6 to capture, and the means.
pub(super) fn ipv6() -> Ipv6 {
    // Absent with `ipv6.disable=1`. Not /proc/net, which is the main thread's namespace: proc_pid_net(5).
    if !fs::exists("/proc/thread-self/net/if_inet6").unwrap_or(true) {
        return Ipv6::Off;
    }
    match save(Family::V6) {
        Ok(_) => Ipv6::Usable,
        Err(error) => Ipv6::Unusable(error),
    }
}

/// Runs a program to its end with `input`; what it printed.
pub(super) fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, IptablesError> {
    let Output { status, stdout, stderr } = output(program, arguments, input).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            IptablesError::Missing { program }
        } else {
            IptablesError::Run { program, source }
        }
    })?;
    if !status.success() {
        return Err(IptablesError::Refused { program, status, stderr: one_line(&stderr) });
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn output(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // The programs read all of their input before they print, so that neither side waits for the other.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    match written {
        // It left before the end of the input: what it said is the better reason.
        Err(_) if !output.status.success() => Ok(output),
        written => written.map(|()| output),
    }
}

fn one_line(stderr: &[u8]) -> String {
    let words: Vec<_> = String::from_utf8_lossy(stderr).split_whitespace().map(str::to_owned).collect();
    words.join(" ").chars().take(STDERR_CHARS).collect()
}
