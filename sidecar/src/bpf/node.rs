//! What the instances of a machine share, so that connections between their proxies can be enrolled: three maps, and the two
//! programs at one of them. All of it is pinned in a directory beside those of instances. It is named after the object, so
//! that other versions, which may have other maps and programs, do not meet: what is between them goes by TCP.

use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{MapError, SockHash};

use super::{BpfError, Kernel, link, pins};

/// The maps that are shared, with what they have room for: ends of connections, and offers. What is taken at once is
/// 3 MB for the machine; an end takes some 300 bytes more.
pub(super) const MAPS: [(&str, u32); 3] =
    [("NODE_PEERS", 65_536), ("NODE_SOCKETS", 65_536), ("NODE_OFFERS", 8_192)];

/// No instance is named so: names begin with a letter or digit. (A bpffs allows no dots.)
const PREFIX: &str = "_node_";
/// What is being made, or was left by somebody who was killed then.
const SCRATCH: &str = "_making";
/// How long a lock is waited for: loading programs takes a second at most.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(5);

/// The machine's directory, or one that is to become it. While there is this, nobody else makes or removes it.
pub(super) struct Place {
    /// Where it is to be.
    path: PathBuf,
    /// Where it is made; none: it is there already.
    scratch: Option<PathBuf>,
    _lock: Lock,
}

/// Keeps others from making what is shared, and from removing it. Whoever finds it there goes on beside others; who makes or
/// removes it is alone.
struct Lock(File);

impl Lock {
    /// Of those who find it.
    fn beside_others(bpffs: &Path) -> io::Result<Self> {
        let root = File::open(bpffs)?;
        patiently(|| root.try_lock_shared())?;
        Ok(Self(root))
    }

    /// Of who makes or removes it. What was found before may be otherwise: the lock is let go of for a moment.
    fn alone(&self) -> io::Result<()> {
        patiently(|| self.0.try_lock())
    }
}

/// Tries for some time. Whoever may open a bpffs may keep it locked, and nobody is to wait for that.
#[allow(clippy::disallowed_methods, reason = "flock(2) has no deadline")]
fn patiently(mut lock: impl FnMut() -> Result<(), TryLockError>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "somebody else keeps it locked"));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(BETWEEN),
        }
    }
}

impl Place {
    /// Where these programs' maps are, or are to be made.
    pub(super) fn find(object: &[u8]) -> Result<Self, BpfError> {
        let bpffs = pins::mounted_bpffs().ok_or_else(|| BpfError::Bypass {
            reason: "no bpffs that other instances see: mount -t bpf bpf /sys/fs/bpf".to_owned(),
        })?;
        let lock = Lock::beside_others(&bpffs).map_err(|cause| file("lock", &bpffs, cause))?;
        let mut hasher = DefaultHasher::new();
        hasher.write(object);
        let of_all = bpffs.join("sidecar");
        let path = of_all.join(format!("{PREFIX}{:016x}", hasher.finish()));
        if path.is_dir() {
            return Ok(Self { path, scratch: None, _lock: lock });
        }
        lock.alone().map_err(|cause| file("lock", &bpffs, cause))?;
        if path.is_dir() {
            // Somebody else was faster: again, beside others.
            drop(lock);
            return Self::find(object);
        }
        let scratch = of_all.join(SCRATCH);
        let cleared = pins::gone(fs::remove_dir_all(&scratch));
        cleared.and_then(|()| pins::make(&scratch)).map_err(|cause| file("create", &scratch, cause))?;
        Ok(Self { path, scratch: Some(scratch), _lock: lock })
    }

    /// Where the maps are pinned while programs are loaded.
    pub(super) fn pins(&self) -> &Path {
        self.scratch.as_ref().unwrap_or(&self.path)
    }

    /// Attaches the programs to maps that were just made, and shows them to others.
    pub(super) fn publish(&mut self, kernel: &mut Kernel) -> Result<(), BpfError> {
        if let Some(scratch) = &self.scratch {
            let sockets = kernel.node_sockets()?;
            kernel.attach_bypass(sockets.as_fd(), "sidecar_node_bypass", "sidecar_node_gather")?;
            fs::rename(scratch, &self.path).map_err(|cause| file("rename", scratch, cause))?;
            self.scratch = None;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(scratch) = &self.scratch {
            let _ = fs::remove_dir_all(scratch);
        }
    }
}

impl Kernel {
    /// Holds what is shared as long as an instance's pins are there; none: it is not held, and others may take it down. To be
    /// called once, soon: until then nobody else can make or remove it.
    pub fn hold_shared(&mut self, instance: Option<&Path>) -> Result<(), BpfError> {
        let (Some(shared), Some(instance)) = (self.shared.take(), instance) else { return Ok(()) };
        let path = instance.join(shared.path.file_name().unwrap_or_default());
        let sockets = self.node_sockets()?;
        link::pin(sockets.as_fd(), &path).map_err(|cause| file("pin a map as", &path, cause))
    }

    fn node_sockets(&self) -> Result<OwnedFd, BpfError> {
        const NAME: &str = "NODE_SOCKETS";
        let failed = |error: MapError| BpfError::Map { map: NAME, reason: error.to_string() };
        let map = self.ebpf.map(NAME).ok_or(MapError::InvalidName { name: NAME.to_owned() });
        let sockets: SockHash<_, u64> = map.and_then(TryFrom::try_from).map_err(failed)?;
        let fd = sockets.fd().as_fd().try_clone_to_owned();
        fd.map_err(|cause| BpfError::Map { map: NAME, reason: cause.to_string() })
    }
}

/// Removes what no instance holds any more, from the directory of all. Enrolled sockets keep their own hold on the programs.
pub(super) fn remove_unused(of_all: &Path) {
    let Some(bpffs) = of_all.parent() else { return };
    let listed = Lock::beside_others(bpffs).and_then(|lock| {
        lock.alone()?;
        let entries = fs::read_dir(of_all)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        Ok((lock, entries))
    });
    // Nothing there, or nothing to be done about it: the next one to go tries again.
    let Ok((_lock, entries)) = listed else { return };
    for path in &entries {
        let name = path.file_name().unwrap_or_default();
        let is_held = || entries.iter().any(|instance| instance.join(name).exists());
        if is_of_all(&name.to_string_lossy()) && !is_held() {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// True for what is not an instance's.
pub(super) fn is_of_all(name: &str) -> bool {
    name.starts_with('_')
}

fn file(operation: &'static str, path: &Path, cause: io::Error) -> BpfError {
    BpfError::File { operation, path: path.to_owned(), cause }
}
