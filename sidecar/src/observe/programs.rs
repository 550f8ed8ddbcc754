//! Finding the paths of cgroups, which the kernel half names by number.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many paths are remembered; beyond it, all are looked up anew.
const CAPACITY: usize = 4096;

/// Paths of cgroups by their number, remembered. A handle: clones share the memory.
#[derive(Clone, Debug)]
pub struct CgroupNames {
    root: Option<PathBuf>,
    known: Arc<Mutex<HashMap<u64, String>>>,
}

impl CgroupNames {
    /// `root`: where the hierarchy is mounted; `None`: no path is ever found.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root, known: Arc::default() }
    }

    /// The path of a cgroup from the hierarchy's root, with a leading slash, found by a process that is in it.
    /// `None`: the process has ended or moved before anybody asked.
    pub fn path(&self, id: u64, pid: u32) -> Option<String> {
        let known = self.lock().get(&id).cloned();
        known.or_else(|| {
            let path = self.look_up(id, pid)?;
            self.remember(id, path.clone());
            Some(path)
        })
    }

    fn look_up(&self, id: u64, pid: u32) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let directory = self.root.as_ref()?.join(path.trim_start_matches('/'));
        (fs::metadata(directory).ok()?.ino() == id).then(|| path.to_owned())
    }

    /// Remembers a path beforehand: a short-lived program may be gone when somebody asks.
    pub fn remember(&self, id: u64, path: String) {
        let mut known = self.lock();
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(id, path);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, String>> {
        // Each operation leaves the map whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
