//! Which file is which, whatever it is called by now.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use ring::digest;
use serde::{Deserialize, Serialize};

/// How much of a file's beginning tells it from others, in bytes.
pub(super) const HEAD: usize = 1024;

/// A file of a file system. The number of one that was removed may be given to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    pub device: u64,
    pub inode: u64,
}

/// The beginning of a file, as far as it was there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    length: usize,
    sha256: String,
}

// === impl ===

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Fingerprint {
    pub(super) fn of(head: &[u8]) -> Self {
        use std::fmt::Write as _;
        let digest = digest::digest(&digest::SHA256, head);
        let sha256 = digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            // A string takes all that is written.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { length: head.len(), sha256 }
    }

    /// True where nothing was there yet, which fits every file.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// True if the file begins like that.
    pub(super) fn is_of(&self, file: &File) -> io::Result<bool> {
        let head = head(file, self.length.min(HEAD))?;
        Ok(Self::of(&head) == *self)
    }
}

/// The first bytes of a file, at most so many.
pub(super) fn head(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; most];
    let mut length = 0;
    while length < most {
        match file.read_at(&mut head[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    head.truncate(length);
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grew_is_the_same_and_another_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        std::fs::write(&path, "one\n").unwrap();
        let fingerprint = Fingerprint::of(&head(&File::open(&path).unwrap(), HEAD).unwrap());
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert!(fingerprint.is_of(&File::open(&path).unwrap()).unwrap());
        for other in ["", "on", "two\none\n"] {
            std::fs::write(&path, other).unwrap();
            assert!(!fingerprint.is_of(&File::open(&path).unwrap()).unwrap(), "{other}");
        }
        assert!(Fingerprint::of(b"").is_of(&File::open(&path).unwrap()).unwrap());
    }
}
