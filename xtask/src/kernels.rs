//! `cargo xtask test --kernels`: the basics on other kernels, each booted in an emulator.
//!
//! A script boots them: `SCRIPT fetch VERSION` gets a kernel, `SCRIPT run VERSION -- DIR CMD` runs CMD with DIR's
//! contents at / and the libraries that the programs in DIR load, for up to LAB_TIMEOUT seconds. It is not part of this
//! repository.

use crate::build;
use crate::util::{binary, run as run_command, run_shown, say, workspace};
use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Long-term kernels, the newest, and the one that most of the development was done on.
const VERSIONS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.2"];

/// What runs in the guest.
const SMOKE: &str = "/bin/sidecar-kernel-smoke";

/// `LAB_TIMEOUT` unless the environment has another: a minute is usual on a machine that is busy otherwise.
const LIMIT: &str = "300";

/// Runs the smoke test on the given kernels, on all without; fails when one fails, after trying them all.
pub(crate) fn run(versions: &[OsString]) -> Result<()> {
    let script = script()?;
    build::run()?;
    let root = Root::new()?;
    let limit = env::var_os("LAB_TIMEOUT").unwrap_or_else(|| LIMIT.into());
    let versions =
        if versions.is_empty() { VERSIONS.map(OsString::from).to_vec() } else { versions.to_vec() };
    let mut failed = Vec::new();
    for version in &versions {
        let version = version.to_string_lossy();
        let outcome = run_shown(Command::new(&script).args(["fetch", &version])).and_then(|()| {
            let mut boot = Command::new(&script);
            boot.args(["run", &version, "--"]).arg(&root.0).arg(SMOKE);
            run_command(boot.env("LAB_TIMEOUT", &limit))
        });
        match outcome {
            Ok(()) => say(format_args!("kernel {version}: passed")),
            Err(error) => {
                say(format_args!("kernel {version}: FAILED: {error:#}"));
                failed.push(version);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed on kernel {}", failed.join(", "));
    }
    Ok(())
}

/// The script that boots kernels.
fn script() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SIDECAR_KERNELS_SH").map(PathBuf::from) {
        let absolute = path.canonicalize();
        return absolute.with_context(|| format!("SIDECAR_KERNELS_SH: no script at {}", path.display()));
    }
    let beside = workspace().join("../shared/lab/kernels.sh");
    beside.canonicalize().context(
        "no script that boots kernels: set SIDECAR_KERNELS_SH to one (xtask/src/kernels.rs says what it must do)",
    )
}

/// A temporary directory with what the guest has at /.
struct Root(PathBuf);

impl Root {
    fn new() -> Result<Self> {
        let root = Self(env::temp_dir().join(format!("sidecar-kernels-{}", std::process::id())));
        // busybox's `ip` makes no veth pairs.
        let ip =
            ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].into_iter().find(|path| Path::new(path).exists());
        root.add(&binary(), "bin/sidecar")?;
        root.add(&workspace().join("tests/kernels/smoke.sh"), SMOKE.trim_start_matches('/'))?;
        root.add(Path::new(ip.context("no `ip` here: install iproute2")?), "usr/sbin/ip")?;
        Ok(root)
    }

    fn add(&self, source: &Path, name: &str) -> Result<()> {
        let target = self.0.join(name);
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        fs::copy(source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Nothing depends on it, and a temporary directory may stay.
        let _ = fs::remove_dir_all(&self.0);
    }
}
