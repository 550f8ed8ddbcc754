//! Files that were made of another by rotation: renamed, or copied.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::checkpoint::Entry;
use super::identity::{Identity, head};

/// A file beside another.
#[derive(Debug)]
pub(super) struct Sibling {
    pub file: File,
    pub path: PathBuf,
    pub identity: Identity,
    modified: SystemTime,
    order: (i64, i64),
}

/// How many entries of a directory are looked at, and how many siblings are opened.
const MAX_ENTRIES: usize = 65_536;
const MAX_SIBLINGS: usize = 64;
/// What the clocks of a file system and of this process may differ.
const SLACK: Duration = Duration::from_secs(1);
/// What is compressed was a file of lines before.
const COMPRESSED: [&str; 5] = ["bz2", "gz", "xz", "zip", "zst"];

/// Whether a file has the bytes of another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Copied {
    No,
    /// It may be a copy that is not written to its end.
    Unclear,
    Yes,
}

/// Two files that begin with so many same bytes are taken for copies.
const TELLING: usize = 16;

// === impl ===

impl Sibling {
    /// Whether it was written to at that time or later.
    pub(super) fn is_newer(&self, than: SystemTime) -> bool {
        self.modified + SLACK >= than
    }

    /// It has the bytes that this entry is about, and more of them than were read.
    pub(super) fn is_copy_of(&self, entry: &Entry) -> bool {
        self.identity != entry.identity
            && !entry.fingerprint.is_empty()
            && self.file.metadata().is_ok_and(|metadata| metadata.len() >= entry.offset)
            && entry.fingerprint.is_of(&self.file).unwrap_or(false)
    }
}

/// A regular file, with what it is. Does not wait for the other end of a pipe, and follows no link [astray](leads_astray).
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    let named = fs::symlink_metadata(path)?;
    // It may have been a link when it was opened.
    let is_named = named.is_symlink() || Identity::from(&named) == Identity::from(&metadata);
    if metadata.is_file() && is_named && !leads_astray(&named, &metadata) {
        Ok((file, metadata))
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// A link on a volume that leads off it: who writes to a volume that we share could have our own files read, such as the token
/// of our service account. Those of our own root file system are the image's.
pub(super) fn leads_astray(named: &Metadata, found: &Metadata) -> bool {
    let is_of_image = || fs::metadata("/").is_ok_and(|root| root.dev() == named.dev());
    named.is_symlink() && found.dev() != named.dev() && !is_of_image()
}

/// Whether a file is a copy of what begins like this.
pub(super) fn copied(file: &File, beginning: &[u8]) -> Copied {
    let Ok(own) = head(file, beginning.len()) else { return Copied::No };
    if !beginning.starts_with(&own) {
        return Copied::No;
    }
    let is_fresh = || {
        let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
        modified.is_none_or(|modified| modified + SLACK >= SystemTime::now())
    };
    if own.len() < beginning.len() && is_fresh() {
        Copied::Unclear
    } else if own.len() >= TELLING {
        Copied::Yes
    } else {
        Copied::No
    }
}

/// The files whose names were made of this one's, those last written to last.
pub(super) fn of(path: &Path) -> Vec<Sibling> {
    let mut found = beside(path);
    // Where the name is a link, rotation may happen where it leads to.
    if let Ok(real) = fs::canonicalize(path)
        && real != path
    {
        found.extend(beside(&real));
    }
    found.sort_by_key(|sibling| sibling.order);
    found.dedup_by_key(|sibling| sibling.identity);
    found
}

/// True if rotation may have made the one name of the other: `app.log.1`, `app.log-20260101`, `app-1.log`, `app.2026.log`.
pub(super) fn is_made_of(name: &OsStr, of: &OsStr) -> bool {
    let (name, of) = (name.as_bytes(), of.as_bytes());
    let extension =
        |name: &[u8]| name.iter().rposition(|byte| *byte == b'.').map(|dot| name[dot + 1..].to_vec());
    if name == of || extension(name).is_some_and(|last| COMPRESSED.iter().any(|one| one.as_bytes() == last)) {
        return false;
    }
    let after = |stem: &[u8]| name.strip_prefix(stem).and_then(|rest| rest.first().copied());
    let separates = |byte: Option<u8>| byte.is_some_and(|byte| b".-_".contains(&byte));
    if separates(after(of)) {
        return true;
    }
    let Some(dot) = of.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0) else { return false };
    let (stem, end) = of.split_at(dot);
    separates(after(stem)) && name.ends_with(end)
}

fn beside(path: &Path) -> Vec<Sibling> {
    let (Some(directory), Some(own)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let entries = fs::read_dir(directory).into_iter().flatten().take(MAX_ENTRIES).flatten();
    let mut paths: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| is_made_of(&entry.file_name(), own))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    // The newest ones count.
    paths.sort();
    let newest = paths.split_off(paths.len().saturating_sub(MAX_SIBLINGS));
    newest.into_iter().filter_map(|(_, path)| sibling(&path)).collect()
}

fn sibling(path: &Path) -> Option<Sibling> {
    let (file, metadata) = open(path).ok()?;
    Some(Sibling {
        file,
        path: path.to_owned(),
        identity: Identity::from(&metadata),
        modified: metadata.modified().ok()?,
        order: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rotated_files_are_known() {
        let made = |name: &str, of: &str| is_made_of(OsStr::new(name), OsStr::new(of));
        for name in ["app.log.1", "app.log-20260101", "app-1.log", "app.2026-01-01.log", "app.log.1.bak"] {
            assert!(made(name, "app.log"), "{name}");
        }
        for name in
            ["app.log", "apple.log", "app.log.1.gz", "other.log", "app.txt", "app.log2", "application.log"]
        {
            assert!(!made(name, "app.log"), "{name}");
        }
        assert!(made("messages.1", "messages"));
        assert!(!made("messages2", "messages"));
        assert!(!made("x.log", ".log"));
    }
}
