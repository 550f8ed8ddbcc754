//! Builds the kernel half into `OUT_DIR/sidecar-ebpf`, with a toolchain of its own.
#![allow(clippy::disallowed_methods, reason = "cargo talks to build scripts through the environment")]

#[allow(dead_code, reason = "xtask uses more of it")]
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().ok_or("the package is outside of its workspace")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let inputs = [
        "Cargo.lock",
        "Cargo.toml",
        "sidecar-common/Cargo.toml",
        "sidecar-common/src",
        "sidecar-ebpf/Cargo.toml",
        "sidecar-ebpf/src",
        "xtask/src/toolchain.rs",
    ];
    for input in inputs {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    if env::var_os("CARGO_CFG_FUZZING").is_some() {
        // Fuzz targets load no kernel half, and are not to wait for one.
        fs::write(out.join("sidecar-ebpf"), [])?;
        return Ok(());
    }
    match toolchain::find(workspace) {
        Ok(toolchain) => build(&toolchain, workspace, &out),
        Err(missing) => {
            println!("cargo::error=the kernel half cannot be built: {missing}; run `cargo xtask setup`");
            Ok(())
        }
    }
}

/// Builds in a directory of its own: the outer cargo holds the lock of the usual one.
fn build(toolchain: &toolchain::Toolchain, workspace: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", toolchain.linker.path.display());
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out: one build serves all profiles.
    let target = out.ancestors().nth(4).ok_or("OUT_DIR is not below a target directory")?.join("ebpf");
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let status = toolchain.cargo("build", &target, &arch).current_dir(workspace).status()?;
    if !status.success() {
        return Err(format!("building the kernel half failed: {status}").into());
    }
    fs::copy(target.join(toolchain::TARGET).join("release/sidecar-ebpf"), out.join("sidecar-ebpf"))?;
    Ok(())
}
