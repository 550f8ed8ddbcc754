//! `cargo xtask image`: a container image with one static binary, in an archive, without a container engine.
//!
//! The binary is linked against glibc's static libraries rather than musl's: it is then the same C library that all tests
//! and benchmarks run with, and a cross compiler of Debian's has it for both architectures, while C libraries for musl need a
//! compiler of their own. Nothing here looks up names or users by way of the C library, so that glibc loads nothing.

mod archive;
mod build;
mod certificates;
mod elf;

use crate::util::{output, say, target};
use anyhow::{Context, Result, bail};
use archive::{Entry, Image};
use clap::{Args, ValueEnum};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most that an image takes.
const MOST_BYTES: usize = 25_000_000;

/// Whom the proxy runs as; interception leaves this user's connections alone.
const USER: u32 = 1337;

#[derive(Args)]
pub(crate) struct Options {
    /// The machine that it is for.
    #[arg(long, value_enum, default_value_t = Arch::host())]
    arch: Arch,
    /// What the image is called.
    #[arg(long, value_name = "NAME", default_value_t = concat!("sidecar:", env!("CARGO_PKG_VERSION")).to_owned())]
    tag: String,
    /// Certificates to trust, rather than those of Debian's `ca-certificates`.
    #[arg(long, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    /// Without optimisation, however large: built much sooner after a change.
    #[arg(long)]
    debug: bool,
}

/// A machine, as images name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Arch {
    Amd64,
    Arm64,
}

/// Builds the image and says where it is.
pub(crate) fn run(options: &Options) -> Result<PathBuf> {
    let program = build::run(options.arch, options.debug)?;
    pack(options, &program)
}

/// An image for tests: the binary, and the archive.
pub(crate) fn build(arch: Arch, tag: &str, debug: bool) -> Result<(PathBuf, PathBuf)> {
    let program = build::run(arch, debug)?;
    let archive = pack(&Options { arch, tag: tag.to_owned(), ca_bundle: None, debug }, &program)?;
    Ok((program, archive))
}

fn pack(options: &Options, program: &Path) -> Result<PathBuf> {
    if options.arch == Arch::host() {
        output(Command::new(program).arg("version").env_clear())?;
    }
    let program = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    elf::check(&program, options.arch)?;
    let certificates = certificates::read(options.ca_bundle.as_deref())?;
    let image = Image {
        tag: &options.tag,
        arch: options.arch.name(),
        version: env!("CARGO_PKG_VERSION"),
        user: USER,
        entrypoint: "/usr/local/bin/sidecar",
        entries: entries(&program, &certificates),
    };
    let bytes = image.pack()?;
    let path = path(options.arch);
    fs::create_dir_all(path.with_file_name(""))?;
    fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    if bytes.len() >= MOST_BYTES && !options.debug {
        bail!("{} has {} bytes; an image is to have less than {MOST_BYTES}", path.display(), bytes.len());
    }
    say(format_args!("{}: {}, {} bytes", path.display(), options.tag, bytes.len()));
    Ok(path)
}

/// Where the image of an architecture is.
pub(crate) fn path(arch: Arch) -> PathBuf {
    target().join(format!("image/sidecar-{}.tar", arch.name()))
}

/// What is in the image, each directory before what is in it.
fn entries<'a>(program: &'a [u8], certificates: &'a [u8]) -> Vec<Entry<'a>> {
    vec![
        Entry::directory("etc/"),
        Entry::directory("etc/ssl/"),
        Entry::directory("etc/ssl/certs/"),
        Entry::file("etc/ssl/certs/ca-certificates.crt", 0o644, certificates),
        Entry::directory("run/"),
        // Where a proxy writes down that it is there.
        Entry { owner: USER, ..Entry::directory("run/sidecar/") },
        Entry::directory("usr/"),
        Entry::directory("usr/local/"),
        Entry::directory("usr/local/bin/"),
        Entry::file("usr/local/bin/sidecar", 0o755, program),
    ]
}

// === impl Arch ===

impl Arch {
    /// This machine's.
    pub(crate) const fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }

    /// As images call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them_and_everything_is_sorted() {
        let entries = entries(b"program", b"certificates");
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        assert!(names.is_sorted());
        for name in &names {
            let parent = name.trim_end_matches('/').rsplit_once('/').map(|(parent, _)| format!("{parent}/"));
            assert!(parent.is_none_or(|parent| names.contains(&parent.as_str())), "{name}");
        }
    }
}
