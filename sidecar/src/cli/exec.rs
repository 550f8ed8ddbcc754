//! The last step of starting CMD: enter its cgroup, then become it. A command of its own, since a process cannot be
//! put into a cgroup between fork and exec without `unsafe`, and must not open a socket before it is there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Not found, as shells and env(1) say it.
const NOT_FOUND: u8 = 127;
/// Found, but it cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// `sidecar exec`: for `sidecar run` only.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The `cgroup.procs` file of the cgroup to enter.
    #[arg(long)]
    cgroup_procs: PathBuf,
    /// The soft limit of open files to go back to.
    #[arg(long)]
    nofile: u64,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes CMD; returns an exit status only if that fails.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    fs::write(&args.cgroup_procs, "0")
        .map_err(|error| anyhow::anyhow!("write {}: {error}", args.cgroup_procs.display()))?;
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Lowering a soft limit is always allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, args.nofile, hard);
    }
    let [program, arguments @ ..] = args.command.as_slice() else { return Ok(NOT_FOUND) };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("sidecar: {}: {error}", program.to_string_lossy());
    Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}
