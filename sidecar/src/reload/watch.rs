//! Notices that the files of a configuration have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::config::Files;
use crate::kubernetes::annotations::Overrides;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How long they must be the same: who writes one in place does so in several steps.
const SETTLE: Duration = Duration::from_millis(100);

/// Looks at the files of a configuration, and knows the version that was taken last.
///
/// It reads them each second. That sees a write, a rename and the swapped link of a mounted `ConfigMap` alike, and works
/// where notifications do not come: on network file systems, in bind mounts, for files that are not there yet. They are
/// some kilobytes in the page cache.
pub struct Watch {
    path: PathBuf,
    taken: u64,
    overrides: Overrides,
}

impl Watch {
    /// From this version on. `None` if it cannot be read twice, as a pipe.
    pub fn new(path: &Path, loaded: &Files) -> Option<Self> {
        let again = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() || metadata.is_dir());
        again.then(|| Self {
            path: path.to_owned(),
            taken: loaded.digest(),
            overrides: loaded.overrides().clone(),
        })
    }

    /// Resolves when it is time to look. Cancel safe.
    pub async fn tick(&self) {
        sleep(PERIOD).await;
    }

    /// The version that is there, once it is complete, unless it is the one taken last. Cancel safe.
    pub async fn changed(&mut self) -> Option<Files> {
        let mut found = self.read().await?;
        // What comes back to what it was while it settles has not changed.
        while found.digest() != self.taken {
            sleep(SETTLE).await;
            let later = self.read().await?;
            if later.digest() == found.digest() {
                self.taken = later.digest();
                return Some(later);
            }
            found = later;
        }
        None
    }

    /// What is there. `None`: the process ends.
    pub async fn read(&self) -> Option<Files> {
        let (path, overrides) = (self.path.clone(), self.overrides.clone());
        // The file system may be slow, and this thread answers probes. It fails when the process ends.
        tokio::task::spawn_blocking(move || Files::read(&path).overridden(overrides)).await.ok()
    }
}
