//! The static binary, for this machine or the other.

use super::Arch;
use crate::util::{self, cargo, output, run_shown, succeeds, target, workspace};
use crate::{packages, setup, toolchain};
use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs what is missing, builds, and says where the binary is.
pub(super) fn run(arch: Arch, debug: bool) -> Result<PathBuf> {
    setup::kernel_half()?;
    setup::libraries()?;
    standard_library(arch)?;
    let compiler = compiler(arch)?;
    let triple = arch.triple();
    let (profile, directory) = if debug { ("dev", "debug") } else { ("image", "image") };
    let mut command = cargo();
    command
        .args(["build", "--package=sidecar", "--bin=sidecar", "--profile", profile, "--target", triple])
        .env(format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase().replace('-', "_")), compiler)
        .env(format!("CC_{}", triple.replace('-', "_")), compiler)
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?)
        .env_remove("RUSTFLAGS");
    if debug {
        command.env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    }
    if arch == Arch::Arm64 {
        // Pages have 4, 16 or 64 KiB there, and jemalloc must know the largest when it is built.
        command.env("JEMALLOC_SYS_WITH_LG_PAGE", "16");
    }
    util::run(&mut command)?;
    Ok(target().join(triple).join(directory).join("sidecar"))
}

/// Static, and without this machine's paths: whoever builds the same sources gets the same bytes.
fn flags() -> Result<OsString> {
    let mut flags = OsString::from("-Ctarget-feature=+crt-static");
    let registry = toolchain::registry().context("no HOME")?;
    for (place, name) in [(registry.as_path(), "/cargo"), (workspace(), "/sidecar")] {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(place);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

/// Rust's library for the target.
fn standard_library(arch: Arch) -> Result<()> {
    let rustc = || {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.current_dir(workspace());
        rustc
    };
    let triple = arch.triple();
    let directory = output(rustc().args(["--print", "target-libdir", "--target", triple]))?;
    if Path::new(directory.trim()).exists() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.current_dir(workspace()).args(["target", "add", triple]);
    run_shown(&mut add)
        .with_context(|| format!("this compiler has no library for {triple}, and rustup brings none"))
}

/// The C compiler that links for the target, after installing it and glibc's static library.
fn compiler(arch: Arch) -> Result<&'static str> {
    let native = arch == Arch::host();
    let compiler = if native { "cc" } else { arch.cross_compiler() };
    let complete = || {
        // An absolute path if it is there.
        let library = output(Command::new(compiler).arg("--print-file-name=libc.a"));
        library.is_ok_and(|path| Path::new(path.trim()).is_absolute())
    };
    if complete() {
        return Ok(compiler);
    }
    packages::install(if native { &["gcc", "libc6-dev"] } else { arch.cross_packages() })?;
    if !succeeds(Command::new(OsStr::new(compiler)).arg("--version")) || !complete() {
        bail!("{compiler} does not know of a libc.a: install glibc's static library");
    }
    Ok(compiler)
}

// === impl Arch ===

impl Arch {
    /// As Rust calls it.
    const fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    const fn cross_compiler(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu-gcc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }

    const fn cross_packages(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"],
            Self::Arm64 => &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        }
    }
}
