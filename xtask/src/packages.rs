//! Packages of Debian and its relatives.

use crate::util::{output, run, run_shown, say, succeeds};
use anyhow::{Result, bail};
use nix::unistd::geteuid;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

/// What keeps a package's installation from starting services (invoke-rc.d's policy layer).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing of `names`. Starts no service.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    let missing: Vec<_> = names.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("sudo apt-get update && sudo apt-get install {}", missing.join(" "));
    if !succeeds(Command::new("apt-get").arg("--version")) {
        bail!("no apt-get here; install by hand what Debian calls {}", missing.join(", "));
    }
    if !geteuid().is_root() && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        bail!("installing packages needs root; type: {by_hand}");
    }
    let _quiet = NoServices::new()?;
    let mut command = privileged(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    command.args(["-qy", "--no-install-recommends", "install"]).args(&missing);
    refresh();
    let installed = run_shown(&mut command);
    installed.map_err(|error| error.context(format!("cannot install packages; by hand: {by_hand}")))
}

/// True when the distribution has such a package, installed or not.
pub(crate) fn known(name: &str) -> bool {
    is_listed(name) || {
        refresh();
        is_listed(name)
    }
}

/// Brings the lists of packages up to date, once: those of a fresh machine are missing, or name versions that are too old.
fn refresh() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = run(&mut privileged(&["apt-get", "-q", "update"])) {
            say(format_args!("the lists of packages stay as they are: {error:#}"));
        }
    });
}

fn is_listed(name: &str) -> bool {
    output(Command::new("apt-cache").args(["show", "--no-all-versions", name]))
        .is_ok_and(|shown| !shown.is_empty())
}

/// True when a package is installed.
fn installed(name: &str) -> bool {
    output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", name]))
        .is_ok_and(|status| status == "installed")
}

/// A command as root: through sudo where we are not.
fn privileged(words: &[&str]) -> Command {
    let sudo = if geteuid().is_root() { &[][..] } else { &["sudo", "-n"] };
    let mut words = sudo.iter().chain(words);
    let mut command = Command::new(words.next().copied().unwrap_or("true"));
    command.args(words);
    command
}

/// While it lives, installing a package starts no service. A policy that is there already is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let write = format!("set -C; printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}");
        run(&mut privileged(&["sh", "-c", &write]))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = run(&mut privileged(&["rm", "-f", POLICY]))
        {
            say(format_args!("services stay disabled: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_not_installed_again() {
        if installed("dpkg") {
            assert!(install(&["dpkg"]).is_ok());
            assert!(!installed("no-such-package"));
        } else {
            println!("skipped: dpkg does not manage this machine");
        }
    }
}
