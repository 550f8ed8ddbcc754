//! What is remembered of each file from one start to the next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::identity::{Fingerprint, Identity};

/// How many files are remembered.
pub(super) const MAX_ENTRIES: usize = 4096;
/// A file of so many entries with long paths is still smaller.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
const VERSION: u32 = 1;

/// How far a file was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// By which name it was found.
    pub path: PathBuf,
    #[serde(flatten)]
    pub identity: Identity,
    pub fingerprint: Fingerprint,
    /// What is before it was written.
    pub offset: u64,
    pub stream: String,
    /// It is a copy of another file: nothing of it is written.
    #[serde(default)]
    pub copy: bool,
}

/// What was remembered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Saved {
    version: u32,
    /// When it was saved, in milliseconds since 1970.
    at: u64,
    pub files: Vec<Entry>,
}

/// The file, which nobody else uses meanwhile.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    _lock: Flock<File>,
}

/// The checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Something about the file, or the lock beside it.
    #[error("--checkpoint {path}: {what}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Another process follows files by it.
    #[error("--checkpoint {0}: another process uses it")]
    Used(PathBuf),
    /// It is none.
    #[error("--checkpoint {path}: {why}; remove it to begin anew, which writes all lines again")]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

// === impl ===

impl Saved {
    pub(super) fn new(files: Vec<Entry>) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { version: VERSION, at: u64::try_from(since.as_millis()).unwrap_or_default(), files }
    }

    pub(super) fn saved_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.at)
    }
}

impl Checkpoint {
    /// Takes it for this process, and reads what is there.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Saved>), CheckpointError> {
        let error = |what| move |source| CheckpointError::File { path: path.to_owned(), what, source };
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(beside);
        let lock = lock.map_err(error("open the lock beside it"))?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(CheckpointError::Used(path.to_owned())),
            Err((_, errno)) => return Err(error("lock the file beside it")(errno.into())),
        };
        let checkpoint = Self { path: path.to_owned(), _lock: lock };
        let malformed = |why: String| CheckpointError::Malformed { path: path.to_owned(), why };
        let text = match fs::metadata(path) {
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok((checkpoint, None)),
            Err(source) => return Err(error("look at it")(source)),
            Ok(metadata) if metadata.len() > MAX_BYTES => return Err(malformed("is too large".to_owned())),
            Ok(_) => fs::read(path).map_err(error("read it"))?,
        };
        let saved: Saved = serde_json::from_slice(&text).map_err(|why| malformed(why.to_string()))?;
        if saved.version != VERSION {
            return Err(malformed(format!("is of version {}, not {VERSION}", saved.version)));
        }
        Ok((checkpoint, Some(saved)))
    }

    /// Puts this in the place of what is there, at once.
    pub(super) fn save(&self, saved: &Saved) -> Result<(), CheckpointError> {
        let error = |what| move |source| CheckpointError::File { path: self.path.clone(), what, source };
        let mut beside = self.path.as_os_str().to_owned();
        beside.push(".new");
        let text = serde_json::to_vec(saved).map_err(|source| error("write it")(source.into()))?;
        let mut file = File::create(&beside).map_err(error("create the file beside it"))?;
        // Without the second, a crash of the machine could leave the name with nothing in it.
        file.write_all(&text).and_then(|()| file.sync_data()).map_err(error("write the file beside it"))?;
        fs::rename(&beside, &self.path).map_err(error("rename the file beside it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_and_nobody_else_may() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        let (checkpoint, before) = Checkpoint::open(&path).unwrap();
        assert_eq!(before, None);
        let saved = Saved::new(vec![Entry {
            path: "/a".into(),
            identity: Identity { device: 1, inode: 2 },
            fingerprint: Fingerprint::of(b"x"),
            offset: 3,
            stream: "s".into(),
            copy: false,
        }]);
        checkpoint.save(&saved).unwrap();
        assert!(matches!(Checkpoint::open(&path), Err(CheckpointError::Used(_))));
        drop(checkpoint);
        assert_eq!(Checkpoint::open(&path).unwrap().1, Some(saved));
    }

    #[test]
    fn what_is_no_checkpoint_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        for text in ["", "{", r#"{"version":9,"at":1,"files":[]}"#] {
            fs::write(&path, text).unwrap();
            let error = Checkpoint::open(&path).unwrap_err();
            assert!(matches!(error, CheckpointError::Malformed { .. }), "{text}: {error}");
        }
    }
}
