//! `cargo xtask fuzz`: bytes that nobody thought of, for what reads bytes of strangers.
//!
//! The targets are linked with libFuzzer by the crate `libfuzzer-sys` and built as cargo-fuzz would, with the flags that are
//! below. cargo-fuzz itself is not used: it is one more thing to install, and what it adds are sanitizers, which want a nightly
//! compiler and have little to find where nearly nothing is `unsafe`. So any compiler that builds the sidecar will do, with a C++
//! compiler for libFuzzer. What panics, overflows, or takes too much memory or time is found all the same.

use crate::packages;
use crate::setup;
use crate::util::{cargo, output, run as run_command, say, target, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What compiles libFuzzer.
const COMPILER: &str = "g++";

/// Marks the code for fuzzing, and has it report which ways through it and which comparisons an input takes.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// What one input may take, in MiB and seconds. The process itself, with its corpus, takes up to half of the memory.
const MEMORY_MIB: u32 = 1024;
const TIME: u32 = 10;

/// How long inputs become: past the ends of all buffers and bounds that the targets have, but for a record of TLS.
const INPUT_BYTES: u32 = 8192;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where chance begins, so that a run can be repeated; another each time without.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// What to fuzz; all without.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Builds the targets and runs them, one after another; fails when one found something, after running them all.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = known()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("no target {unknown:?}; there are {}", known.join(", "));
    }
    let targets = if options.targets.is_empty() { &known } else { &options.targets };
    let binaries = build(targets)?;
    let mut failed = Vec::new();
    for name in targets {
        if let Err(error) = fuzz(name, &binaries.join(format!("fuzz-{name}")), options) {
            say(format_args!("{name}: FAILED: {error:#}"));
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("found something in {}", failed.join(", "));
    }
    Ok(())
}

/// The targets that there are, by name.
fn known() -> Result<Vec<String>> {
    let files = fs::read_dir(workspace().join("fuzz/fuzz_targets"))?;
    let mut names = Vec::new();
    for file in files {
        names.extend(file?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds targets and says where they are.
fn build(targets: &[String]) -> Result<PathBuf> {
    setup::libraries()?;
    // Found by what it does: some distributions call its package otherwise.
    if output(Command::new(COMPILER).arg("--version")).is_err() {
        packages::install(&[COMPILER])?;
    }
    let version = output(Command::new(rustc()).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let mut command = cargo();
    // With a target that is named, the flags are not for build scripts, which have nothing to report to.
    command.args(["build", "--profile=fuzz", "--package=sidecar-fuzz", "--target", host]);
    command.args(targets.iter().map(|name| format!("--bin=fuzz-{name}")));
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    run_command(&mut command)?;
    Ok(target().join(host).join("fuzz"))
}

/// The compiler of the cargo that runs us.
fn rustc() -> PathBuf {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()).into()
}

/// Runs one target from its seeds and from what was found before.
fn fuzz(name: &str, binary: &Path, options: &Options) -> Result<()> {
    let Options { seconds, seed, .. } = options;
    let seeds = workspace().join("fuzz/seeds").join(name);
    let dictionary = workspace().join(format!("fuzz/dictionaries/{name}.dict"));
    let (corpus, found) = (target().join("fuzz/corpus").join(name), target().join("fuzz/found").join(name));
    for directory in [&corpus, &found] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let before = listed(&found)?;
    say(format_args!("{name}: fuzzing for {seconds} s"));
    let mut command = Command::new(binary);
    // libFuzzer takes 0 for one of its own.
    command.args([format!("-max_total_time={seconds}"), format!("-seed={seed}")]);
    command.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg(format!("-timeout={TIME}"));
    command.arg(format!("-max_len={INPUT_BYTES}"));
    command.arg(format!("-artifact_prefix={}/", found.display()));
    command.args(["-print_final_stats=1", "-verbosity=0"]);
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    run_command(command.arg(corpus).arg(seeds)).inspect_err(|_| {
        for file in listed(&found).unwrap_or_default().iter().filter(|file| !before.contains(file)) {
            say(format_args!("{name}: written to {}", file.display()));
            say(format_args!("{name}: again: {} {}", binary.display(), file.display()));
            say(format_args!(
                "{name}: smaller: {} -minimize_crash=1 -max_total_time=60 {}",
                binary.display(),
                file.display()
            ));
        }
    })
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}
