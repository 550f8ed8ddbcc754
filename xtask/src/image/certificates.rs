//! The authorities that the image trusts, for backends whose configuration names none.

use crate::packages;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Mozilla's, each in a file. The bundle below /etc also has what this machine's owner added, which is no one else's business.
const DIRECTORY: &str = "/usr/share/ca-certificates/mozilla";

/// A bundle: the given one, or Debian's.
pub(super) fn read(bundle: Option<&Path>) -> Result<Vec<u8>> {
    if let Some(file) = bundle {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    if !Path::new(DIRECTORY).exists() {
        let installed = packages::install(&["ca-certificates"]);
        installed.context("no certificates to put into the image; name some with --ca-bundle")?;
    }
    collect(Path::new(DIRECTORY))
}

/// All certificates of a directory, in the order of their files' names.
fn collect(directory: &Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    for file in fs::read_dir(directory)? {
        files.push(file?.path());
    }
    files.sort();
    let mut bundle = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "crt")) {
        bundle.extend(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    if bundle.is_empty() {
        bail!("no certificates in {}", directory.display());
    }
    Ok(bundle)
}
