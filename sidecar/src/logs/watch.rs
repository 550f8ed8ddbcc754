//! Notices that something was written. What inotify does not tell, as on network file systems and for files that are not
//! there yet, is found by looking each second.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::time::sleep;

/// How often it is looked without being told.
const PERIOD: Duration = Duration::from_secs(1);
const PERIOD_MILLIS: u16 = 1000;
/// How long is gathered what is written in many small steps: lines are written, and remembered, in batches.
const GATHER: Duration = Duration::from_millis(50);
/// How many directories are watched; others are looked at each second.
const MAX_DIRECTORIES: usize = 256;
/// How many events are read at most at a time; more wait.
const MAX_READS: usize = 64;

/// Watches directories.
pub(super) struct Watch {
    /// `None`: there are no notifications here.
    told: Option<Arc<Inotify>>,
    watched: HashMap<PathBuf, WatchDescriptor>,
}

// === impl ===

impl Watch {
    /// Within a runtime.
    pub(super) fn new() -> Self {
        let told = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map(Arc::new);
        if let Err(error) = &told {
            tracing::info!(%error, "no notifications: files are looked at each second");
        }
        Self { told: told.ok(), watched: HashMap::new() }
    }

    /// Watches these directories and no others.
    pub(super) fn set(&mut self, directories: &[PathBuf]) {
        let Some(inotify) = &self.told else { return };
        let wanted: Vec<&PathBuf> = directories.iter().take(MAX_DIRECTORIES).collect();
        self.watched.retain(|path, descriptor| {
            let keep = wanted.contains(&path);
            if !keep {
                // It may be gone, and its watch with it.
                let _ = inotify.rm_watch(*descriptor);
            }
            keep
        });
        for path in wanted {
            if !self.watched.contains_key(path)
                && let Some(descriptor) = add(inotify, path)
            {
                self.watched.insert(path.clone(), descriptor);
            }
        }
    }

    /// Resolves when it is time to look. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let Some(inotify) = self.told.clone() else { return sleep(PERIOD).await };
        // One that was removed and made again has lost its watch.
        self.watched.retain(|path, descriptor| add(&inotify, path) == Some(*descriptor));
        // On a thread that may wait; it is not waited for when the process ends.
        match tokio::task::spawn_blocking(move || wait(&inotify)).await {
            Ok(true) => sleep(GATHER).await,
            Ok(false) => {}
            Err(_) => sleep(PERIOD).await,
        }
    }
}

fn add(inotify: &Inotify, path: &Path) -> Option<WatchDescriptor> {
    let events = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(path, events).ok()
}

/// Waits for events, at most for the period, and forgets them: it is looked at all files anyway. True: there were some.
fn wait(inotify: &Inotify) -> bool {
    let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
    if !poll(&mut fds, PollTimeout::from(PERIOD_MILLIS)).is_ok_and(|ready| ready > 0) {
        return false;
    }
    for _ in 0..MAX_READS {
        if inotify.read_events().is_err() {
            break;
        }
    }
    true
}
