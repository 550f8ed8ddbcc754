//! Where things are, and how commands are run.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The `sidecar` that [`crate::build`] leaves.
pub(crate) fn binary() -> PathBuf {
    target().join("release/sidecar")
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// A tool that set-up has installed into the workspace.
pub(crate) fn tool(name: &str) -> PathBuf {
    crate::toolchain::tools(workspace()).join("bin").join(name)
}

/// Tells what happens.
pub(crate) fn say(message: impl std::fmt::Display) {
    eprintln!("xtask: {message}");
}

/// Runs a command to its end; it shares our input and output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Like [`run`], but says first what it runs.
pub(crate) fn run_shown(command: &mut Command) -> Result<()> {
    say(format_args!("running {}", shown(command)));
    run(command)
}

/// Like [`run`], but ends the command after `limit`.
pub(crate) fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{} took longer than {} s", shown(command), limit.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// What a command prints on its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}: {}", shown(command), output.status, why.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} did not print UTF-8", shown(command)))
}

/// True when a command can be started and succeeds; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_what_takes_too_long() {
        let error = run_within(Duration::from_millis(100), Command::new("sleep").arg("60")).err();
        assert!(error.is_some_and(|error| error.to_string().starts_with("sleep 60 took longer")));
    }

    #[test]
    fn an_error_names_the_command_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no >&2; exit 3"])).err();
        assert!(error.is_some_and(|error| error.to_string().ends_with("exit status: 3: no")));
    }
}
