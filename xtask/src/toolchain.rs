//! What builds the kernel half: a compiler that can build `core` for BPF, and a `bpf-linker` that reads the bitcode
//! which that compiler writes. An older LLVM does not read a newer one's, so only pairs count.
//!
//! `sidecar/build.rs` takes this file in by its path: nothing but the standard library here.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of the kernel half.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// A compiler with the sources of its `core`.
pub(crate) struct Compiler {
    /// Whose it is, for people.
    pub(crate) origin: &'static str,
    /// Its cargo; never rustup's proxy, which would choose again.
    pub(crate) cargo: PathBuf,
    /// Its rustc.
    pub(crate) rustc: PathBuf,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
}

/// A `bpf-linker`.
pub(crate) struct Linker {
    /// The program.
    pub(crate) path: PathBuf,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
}

/// A compiler and a linker that fit.
pub(crate) struct Toolchain {
    /// Writes the bitcode.
    pub(crate) compiler: Compiler,
    /// Reads it.
    pub(crate) linker: Linker,
}

/// The toolchain to use, or what is missing for one, as a line.
pub(crate) fn find(workspace: &Path) -> Result<Toolchain, String> {
    let compilers = compilers();
    if compilers.is_empty() {
        return Err("no Rust compiler with the sources of its `core` (rust-src)".into());
    }
    let lacking: Vec<_> =
        compilers.iter().map(|c| format!("{} (LLVM {})", c.rustc.display(), c.llvm)).collect();
    for compiler in compilers {
        if let Some(linker) = linkers(workspace).into_iter().find(|linker| linker.llvm >= compiler.llvm) {
            return Ok(Toolchain { compiler, linker });
        }
    }
    Err(format!("no bpf-linker that reads the bitcode of {}", lacking.join(" or ")))
}

/// The usable compilers of this machine, the preferred one first.
pub(crate) fn compilers() -> Vec<Compiler> {
    let nightly = output(
        Command::new("rustup")
            .args(["which", "--toolchain", "nightly", "rustc"])
            .env("RUSTUP_AUTO_INSTALL", "0"),
    );
    let nightly = nightly.map(|path| ("rustup's nightly", PathBuf::from(path.trim())));
    let distribution = Some(("the distribution", PathBuf::from("/usr/bin/rustc")));
    nightly.into_iter().chain(distribution).filter_map(|(origin, rustc)| compiler(origin, rustc)).collect()
}

/// Where [`find`] looks for linkers first, and where set-up installs tools: `bin` in this directory.
pub(crate) fn tools(workspace: &Path) -> PathBuf {
    workspace.join("target/tools")
}

/// The linkers of this machine, the workspace's own first. One whose LLVM cannot be told does not count.
fn linkers(workspace: &Path) -> Vec<Linker> {
    let path = env::var_os("PATH").unwrap_or_default();
    [tools(workspace).join("bin")]
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|directory| directory.join("bpf-linker"))
        .filter_map(|path| Some(Linker { llvm: linked_llvm(&fs::read(&path).ok()?)?, path }))
        .collect()
}

/// The compiler at `rustc`, when it has a cargo beside it and the sources of `core`.
fn compiler(origin: &'static str, rustc: PathBuf) -> Option<Compiler> {
    let cargo = rustc.with_file_name("cargo");
    let sysroot = output(isolated(&rustc).args(["--print", "sysroot"]))?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
    if !cargo.exists() || !core.exists() {
        return None;
    }
    let version = output(isolated(&rustc).arg("-vV"))?;
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    let llvm = llvm.split('.').next()?.parse().ok()?;
    Some(Compiler { origin, cargo, rustc, llvm })
}

/// The major version of the LLVM in a `bpf-linker`: from the name of the library that it loads (`libLLVM.so.22.1`,
/// `libLLVM-22`), or from the producer string of a linked-in bitcode writer (`LLVM22.1.8`).
fn linked_llvm(program: &[u8]) -> Option<u32> {
    let mut rest = program;
    while let Some(at) = rest.windows(4).position(|window| window == b"LLVM") {
        rest = &rest[at + 4..];
        let library = [b".so.".as_slice(), b"-"].iter().find_map(|prefix| rest.strip_prefix(*prefix));
        let version = library.unwrap_or(rest);
        let digits = version.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let complete = library.is_some() || version.get(digits) == Some(&b'.');
        if (1..=3).contains(&digits) && complete {
            return str::from_utf8(&version[..digits]).ok()?.parse().ok();
        }
    }
    None
}

/// What a command prints, when it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// A command that does not inherit what an outer cargo or rustup told its children: build flags, wrappers (clippy
/// is one), the toolchain, and the path of that toolchain's libraries.
fn isolated(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if is_outer(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// True for the variables that [`isolated`] drops. Those that say how to reach a registry stay.
fn is_outer(name: &OsStr) -> bool {
    const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_TERM_"];
    const DROPPED: [&str; 5] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
    let name = name.to_string_lossy();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    name == "LD_LIBRARY_PATH" || (starts(&DROPPED) && !starts(&KEPT))
}

/// Where cargo has the sources of dependencies.
pub(crate) fn registry() -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// The workspace that this was built from: who takes this file in is a member of it.
fn workspace() -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf)
}

impl Toolchain {
    /// A cargo command (`build`, `check`) on the kernel half for a machine of the architecture `arch`, as
    /// `CARGO_CFG_TARGET_ARCH` spells it. The compilers are not all nightlies, hence `RUSTC_BOOTSTRAP`.
    pub(crate) fn cargo(&self, subcommand: &str, target_directory: &Path, arch: &str) -> Command {
        let mut linker = OsString::from("-Clinker=");
        linker.push(&self.linker.path);
        let mut flags = OsString::from("-Cdebuginfo=2\x1f-Clink-arg=--btf\x1f");
        flags.push(format!("--cfg=bpf_target_arch=\"{arch}\"\x1f"));
        flags.push(linker);
        // The debugging information stays in the binary; it is not to tell of this machine.
        let sysroot = self.compiler.rustc.ancestors().nth(2).map(Path::to_path_buf);
        for (place, name) in [(registry(), "/cargo"), (workspace(), "/sidecar"), (sysroot, "/rust")] {
            if let Some(place) = place {
                flags.push("\x1f--remap-path-prefix=");
                flags.push(place);
                flags.push(format!("={name}"));
            }
        }

        let mut command = isolated(&self.compiler.cargo);
        command
            .env("RUSTC", &self.compiler.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .args([subcommand, "--locked", "--release", "--package=sidecar-ebpf", "-Zbuild-std=core"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(target_directory);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_llvm_of_a_linker() {
        assert_eq!(linked_llvm(b"\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(linked_llvm(b"\0libLLVM-21.so\0"), Some(21));
        assert_eq!(linked_llvm(b"LLVM ERROR\0LLVM_22.1\0LLVM23.1.4\0"), Some(23));
        assert_eq!(linked_llvm(b"LLVM\0LLVM9000.1 LLVM22"), None);
    }

    #[test]
    fn drops_what_an_outer_cargo_set_and_keeps_the_registry() {
        for name in
            ["CARGO", "CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"]
        {
            assert!(is_outer(name.as_ref()), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "RUSTUP_HOME"] {
            assert!(!is_outer(name.as_ref()), "{name}");
        }
    }
}
