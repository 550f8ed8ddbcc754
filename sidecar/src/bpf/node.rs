//! What the instances of a machine share, so that connections between their proxies can be enrolled: three maps, and the two
//! programs at one of them. All of it is pinned in a directory beside those of instances. It is named after the object, so
//! that other versions, which may have other maps and programs, do not meet: what is between them goes by TCP.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{MapError, SockHash};

use super::{BpfError, Kernel, link, pins};

/// The maps that are shared, with what they have room for: ends of connections, and offers. An end takes some 300 bytes; what is
/// taken at once is 3 MB for the machine.
pub(super) const MAPS: [(&str, u32); 3] =
    [("NODE_PEERS", 65_536), ("NODE_SOCKETS", 65_536), ("NODE_OFFERS", 8_192)];

/// No instance is named so: names begin with a letter or digit. (A bpffs allows no dots.)
const PREFIX: &str = "_node_";
const SCRATCH: &str = "_making_";
/// Whoever makes a directory is done much earlier.
const MAKING: Duration = Duration::from_secs(60);

/// The machine's directory, or one that is to become it.
pub(super) struct Place {
    /// Where it is to be.
    shared: PathBuf,
    /// Where it is made; none: it is there already.
    scratch: Option<PathBuf>,
}

impl Place {
    /// Where these programs' maps are, or are to be made.
    pub(super) fn find(object: &[u8]) -> Result<Self, BpfError> {
        let bpffs = pins::mounted_bpffs().ok_or_else(|| BpfError::Bypass {
            reason: "no bpffs that other instances see: mount -t bpf bpf /sys/fs/bpf".to_owned(),
        })?;
        let mut hasher = DefaultHasher::new();
        hasher.write(object);
        let of_all = bpffs.join("sidecar");
        let shared = of_all.join(format!("{PREFIX}{:016x}", hasher.finish()));
        if shared.is_dir() {
            return Ok(Self { shared, scratch: None });
        }
        // Two threads of a process do not arm at once.
        let scratch = of_all.join(format!("{SCRATCH}{}", std::process::id()));
        let cleared = pins::gone(fs::remove_dir_all(&scratch));
        cleared.and_then(|()| pins::make(&scratch)).map_err(|cause| file("create", &scratch, cause))?;
        Ok(Self { shared, scratch: Some(scratch) })
    }

    /// Where the maps are pinned while programs are loaded.
    pub(super) fn pins(&self) -> &Path {
        self.scratch.as_ref().unwrap_or(&self.shared)
    }

    /// Its name, under which an instance holds it.
    pub(super) fn name(&self) -> String {
        self.shared.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Attaches the programs to maps that were just made, and shows them to others. False: somebody else was faster, and
    /// these are not the machine's.
    pub(super) fn publish(mut self, kernel: &mut Kernel) -> Result<bool, BpfError> {
        let Some(scratch) = self.scratch.take() else { return Ok(true) };
        let mut publish = || {
            let sockets = kernel.node_sockets()?;
            kernel.attach_bypass(sockets.as_fd(), "sidecar_node_bypass", "sidecar_node_gather")?;
            match fs::rename(&scratch, &self.shared) {
                Ok(()) => Ok(true),
                Err(error) if self.shared.is_dir() => {
                    tracing::debug!(%error, "another instance was faster");
                    Ok(false)
                }
                Err(cause) => Err(file("rename", &scratch, cause)),
            }
        };
        let published = publish();
        if !matches!(published, Ok(true)) {
            let _ = fs::remove_dir_all(&scratch);
        }
        published
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
    /// Holds what is shared as long as an instance's pins are there.
    pub fn hold_shared(&mut self, instance: &Path) -> Result<(), BpfError> {
        let Some(name) = self.shared.clone() else { return Ok(()) };
        let path = instance.join(name);
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

/// Removes what no instance holds any more, from the directory of all. Enrolled sockets keep their own hold on the programs. Who is
/// just arming may lose it: its connections then find no other end, and stay with TCP.
pub(super) fn remove_unused(of_all: &Path) {
    let entries: Vec<PathBuf> =
        fs::read_dir(of_all).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let named = |path: &Path, prefix: &str| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
    };
    for path in entries.iter().filter(|path| named(path, PREFIX)) {
        let held = path.file_name().is_some_and(|name| entries.iter().any(|one| one.join(name).exists()));
        if !held {
            let _ = fs::remove_dir_all(path);
        }
    }
    let is_old = |path: &Path| {
        let age = fs::metadata(path).and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        age.is_ok_and(|age| age.is_ok_and(|age| age > MAKING))
    };
    for path in entries.iter().filter(|path| named(path, SCRATCH) && is_old(path)) {
        let _ = fs::remove_dir_all(path);
    }
}

/// True for what is not an instance's.
pub(super) fn is_of_all(name: &str) -> bool {
    name.starts_with('_')
}

fn file(operation: &'static str, path: &Path, cause: io::Error) -> BpfError {
    BpfError::File { operation, path: path.to_owned(), cause }
}
