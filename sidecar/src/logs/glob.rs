//! Which files are followed: absolute paths with `*`, `?` and `[a-z]` in any part, as shells have them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::siblings::leads_astray;

/// A path with wildcards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Glob(Vec<Part>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Name(String),
    Wild(Vec<u8>),
}

/// What a [`Glob`] finds.
#[derive(Default, Debug)]
pub(super) struct Found {
    /// Everything of that name, files or not, in order.
    pub paths: Vec<PathBuf>,
    /// The directories in which further ones would appear.
    pub directories: Vec<PathBuf>,
}

/// Why a text is no [`Glob`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write an absolute path such as /var/log/app/*.log, without '..' and with each '[' closed")]
pub struct GlobError;

/// How many entries of a directory are looked at.
const MAX_ENTRIES: usize = 65_536;

// === impl ===

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        let parts = text.strip_prefix('/').ok_or(GlobError)?;
        let parts: Vec<&str> = parts.split('/').filter(|part| !part.is_empty()).collect();
        if parts.is_empty() || parts.contains(&"..") || text.contains('\0') {
            return Err(GlobError);
        }
        let part = |text: &&str| match text.contains(['*', '?', '[']) {
            true if is_closed(text.as_bytes()) => Ok(Part::Wild(text.as_bytes().to_vec())),
            true => Err(GlobError),
            false => Ok(Part::Name((*text).to_owned())),
        };
        parts.iter().map(part).collect::<Result<_, _>>().map(Self)
    }
}

impl Glob {
    /// Whether it finds what has this path.
    pub(super) fn is_match(&self, path: &Path) -> bool {
        let names: Vec<&OsStr> = path.iter().skip(1).collect();
        let fits = |(part, name): (&Part, &&OsStr)| match part {
            Part::Name(own) => *name == OsStr::new(own),
            Part::Wild(pattern) => matches_name(pattern, name),
        };
        names.len() == self.0.len() && self.0.iter().zip(&names).all(fits)
    }

    /// What is there now.
    pub(super) fn expand(&self, found: &mut Found) {
        walk(Path::new("/"), &self.0, found);
    }
}

fn walk(directory: &Path, parts: &[Part], found: &mut Found) {
    let Some((part, rest)) = parts.split_first() else { return };
    if rest.is_empty() {
        found.directories.push(directory.to_owned());
    }
    for path in candidates(directory, part) {
        if !rest.is_empty() {
            let (named, leads_to) = (fs::symlink_metadata(&path), fs::metadata(&path));
            match (named, leads_to) {
                (Ok(named), Ok(leads_to)) if leads_astray(&named, &leads_to) => {}
                _ => walk(&path, rest, found),
            }
        } else if fs::symlink_metadata(&path).is_ok() {
            found.paths.push(path);
        }
    }
}

fn candidates(directory: &Path, part: &Part) -> Vec<PathBuf> {
    match part {
        Part::Name(name) => vec![directory.join(name)],
        Part::Wild(pattern) => {
            // One that cannot be read, or is none, has nothing to follow.
            let entries = fs::read_dir(directory).into_iter().flatten().take(MAX_ENTRIES).flatten();
            let matching = entries.filter(|entry| matches_name(pattern, &entry.file_name()));
            let mut paths: Vec<PathBuf> = matching.map(|entry| entry.path()).collect();
            paths.sort();
            paths
        }
    }
}

/// What begins with a dot must be named so.
fn matches_name(pattern: &[u8], name: &OsStr) -> bool {
    let name = name.as_bytes();
    (!name.starts_with(b".") || pattern.starts_with(b".")) && matches(pattern, name)
}

/// Goes back to the last `*` where the rest does not match: time is at most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => {
                class(&pattern[p..]).and_then(|(length, set)| is_in(set, name[n]).then_some(length))
            }
            Some(byte) => (*byte == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The length of the class at the pattern's beginning, and what is between its brackets.
fn class(pattern: &[u8]) -> Option<(usize, &[u8])> {
    // A `]` that comes first is itself.
    let first = if pattern.get(1) == Some(&b'!') { 3 } else { 2 };
    let end = first + pattern.get(first..)?.iter().position(|byte| *byte == b']')?;
    Some((end + 1, &pattern[1..end]))
}

fn is_in(set: &[u8], byte: u8) -> bool {
    let (negated, mut set) = match set.split_first() {
        Some((b'!', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    while let Some((first, rest)) = set.split_first() {
        if let [b'-', last, rest @ ..] = rest {
            found |= (*first..=*last).contains(&byte);
            set = rest;
        } else {
            found |= *first == byte;
            set = rest;
        }
    }
    found != negated
}

fn is_closed(mut pattern: &[u8]) -> bool {
    while let Some(open) = pattern.iter().position(|byte| *byte == b'[') {
        match class(&pattern[open..]) {
            Some((length, _)) => pattern = &pattern[open + length..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_shells() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("*.log", &["a.log", "a.b.log"], &["a.log.1", ".log", ".a.log", "log"]),
            ("app-?.log", &["app-1.log"], &["app-12.log", "app-.log"]),
            ("[a-c]*[!0-9]", &["ax", "cab"], &["dx", "a1", "a"]),
            ("[]x]", &["]", "x"], &["y"]),
            ("*a*b*", &["ab", "xaxbx"], &["ba", "b"]),
            (".*", &[".hidden"], &["shown"]),
        ];
        for (pattern, good, bad) in cases {
            for name in good {
                assert!(matches_name(pattern.as_bytes(), OsStr::new(name)), "{pattern} {name}");
            }
            for name in bad {
                assert!(!matches_name(pattern.as_bytes(), OsStr::new(name)), "{pattern} {name}");
            }
        }
        assert!(!matches(b"*a*a*a*a*a*a*a*b", &[b'a'; 200]));
    }

    #[test]
    fn paths_are_absolute() {
        for bad in ["", "app.log", "/", "/a/../b", "/a/[b", "/a/\0"] {
            assert_eq!(bad.parse::<Glob>(), Err(GlobError), "{bad}");
        }
    }

    #[test]
    fn directories_may_be_wild_too() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a/x.log", "b/y.log", "b/y.txt", "c.log"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let glob: Glob = format!("{}/*/*.log", root.path().display()).parse().unwrap();
        let mut found = Found::default();
        glob.expand(&mut found);
        assert!(found.paths.iter().all(|path| glob.is_match(path)));
        assert!(!glob.is_match(&root.path().join("c.log")) && !glob.is_match(&root.path().join("b/y.txt")));
        assert_eq!(found.paths, ["a/x.log", "b/y.log"].map(|name| root.path().join(name)));
        // c.log is no directory, which is harmless: nothing is in it.
        assert!(found.directories.contains(&root.path().join("b")));
    }
}
