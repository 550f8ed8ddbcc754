//! An instance's directory, by which the other commands find it and what it set up.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::cgroup::CgroupPath;
use crate::servers::PortsInUse;

/// Where instances keep their directories.
pub const RUN_DIRECTORY: &str = "/run/sidecar";
/// The Unix socket of the admin service, in an instance's directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// Where the cgroup hierarchy is mounted if it is nowhere else, in an instance's directory.
pub const CGROUP_MOUNT: &str = "cgroup";
/// Where an unprivileged proxy makes its control socket, in an instance's directory; [`CONTROL_SOCKET`] links to it.
pub const PROXY_DIRECTORY: &str = "proxy";
/// What was set up, in an instance's directory.
pub const STATE_FILE: &str = "instance.json";
/// Names go into paths, pins and chain names.
const MAX_NAME: usize = 64;

/// What can go wrong with an instance's directory.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Not a name.
    #[error(
        "instance name {0:?}: use up to {MAX_NAME} letters, digits, `-` and `_`, and begin with a letter or digit"
    )]
    Name(String),
    /// Another process has the name.
    #[error("instance {name}: in use by process {pid}; choose another --name")]
    InUse {
        /// The name.
        name: String,
        /// Who has it.
        pid: i32,
    },
    /// A dead process has left things under the name.
    #[error("instance {0}: left behind by a process that is gone; run `sidecar detach {0}` first")]
    LeftBehind(InstanceName),
    /// Not to be believed.
    #[error("{}: belongs to user {owner}, or others may write to it: remove it by hand", path.display())]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// A file or directory.
    #[error("{operation} {}: {cause}{}", path.display(), remedy(cause))]
    File {
        /// What was tried.
        operation: &'static str,
        /// The object.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
}

/// A valid name of an instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(String);

/// Who set the instance up, and so who takes it down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// A process that takes everything down as it ends.
    Process,
    /// `sidecar init`: stays until `sidecar detach`.
    Nobody,
    /// `sidecar agent`, whichever process that is by now.
    Agent,
}

/// All that was set up. Written before each step, so that whatever a killed process leaves behind is listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The instance.
    pub name: InstanceName,
    /// Who takes it down.
    pub owner: Owner,
    /// The process that set it up.
    pub pid: i32,
    /// When that process started, in clock ticks since boot (`proc_pid_stat(5)`, field 22): pids are used again.
    pub started: u64,
    /// Which boot of the machine that was (`/proc/sys/kernel/random/boot_id`, random(4)); empty: nobody said.
    #[serde(default)]
    pub boot: String,
    /// Cgroups that were made; each with all below it.
    #[serde(default)]
    pub cgroups: Vec<CgroupPath>,
    /// A cgroup that was there and is armed; not ours to remove.
    #[serde(default)]
    pub armed: Option<CgroupPath>,
    /// The kernel's numbers of attached links.
    #[serde(default)]
    pub links: Vec<u32>,
    /// Where links are pinned.
    #[serde(default)]
    pub pins: Option<PathBuf>,
    /// The pin directory is a bpffs of the instance's own.
    #[serde(default)]
    pub pins_mounted: bool,
    /// Why its proxy has no bypass; none: it has, by what is pinned.
    #[serde(default)]
    pub no_bypass: Option<String>,
    /// Rules were installed by iptables-restore.
    #[serde(default)]
    pub iptables: bool,
    /// The inode of the network namespace that was armed.
    #[serde(default)]
    pub netns: u64,
    /// The ports on which its proxy listens.
    #[serde(default)]
    pub ports: PortsInUse,
    /// Set by the agent once all is attached: a number that no other arming has.
    #[serde(default)]
    pub generation: u32,
    /// The agent steers nothing more there; what is under way ends.
    #[serde(default)]
    pub leaving: bool,
}

/// An instance's directory. Removed when dropped, unless it is to stay.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    /// What was set up so far.
    pub state: State,
    stays: bool,
}

// === impl InstanceName ===

impl InstanceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InstanceName {
    type Error = InstanceError;

    fn try_from(name: String) -> Result<Self, InstanceError> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.len() <= MAX_NAME
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(fine)
        {
            Ok(Self(name))
        } else {
            Err(InstanceError::Name(name))
        }
    }
}

impl std::str::FromStr for InstanceName {
    type Err = InstanceError;

    fn from_str(name: &str) -> Result<Self, InstanceError> {
        name.to_owned().try_into()
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> Self {
        name.0
    }
}

impl std::fmt::Display for InstanceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Instance ===

impl Instance {
    /// Takes a name below `run_directory`. What a dead process left under it is for `sidecar detach` to undo first.
    pub fn claim(run_directory: &Path, name: InstanceName, owner: Owner) -> Result<Self, InstanceError> {
        let pid = nix::unistd::Pid::this().as_raw();
        let state = State {
            name,
            owner,
            pid,
            started: start_time(pid).unwrap_or_default(),
            boot: boot(),
            cgroups: Vec::new(),
            armed: None,
            links: Vec::new(),
            pins: None,
            pins_mounted: false,
            no_bypass: None,
            iptables: false,
            netns: 0,
            ports: PortsInUse::default(),
            generation: 0,
            leaving: false,
        };
        // Made aside, then renamed: nobody ever finds an instance without its state.
        let scratch = run_directory.join(format!(".{}.{pid}", state.name));
        make_scratch(run_directory, &scratch)?;
        let mut instance = Self { directory: scratch, state, stays: false };
        instance.save()?;
        let directory = run_directory.join(instance.state.name.as_str());
        match fs::rename(&instance.directory, &directory) {
            Ok(()) => {
                instance.directory = directory;
                Ok(instance)
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {
                let name = instance.state.name.clone();
                Err(match read(&directory) {
                    Ok(state) if state.is_alive() => InstanceError::InUse { name: name.0, pid: state.pid },
                    _ => InstanceError::LeftBehind(name),
                })
            }
            Err(cause) => Err(file("create", &directory)(cause)),
        }
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes down what was set up, atomically.
    pub fn save(&self) -> Result<(), InstanceError> {
        let path = self.directory.join(STATE_FILE);
        let scratch = self.directory.join(".instance.json");
        let write = || {
            let mut out = fs::File::create(&scratch)?;
            serde_json::to_writer_pretty(&mut out, &self.state)?;
            out.write_all(b"\n")?;
            fs::rename(&scratch, &path)
        };
        write().map_err(file("write", &path))
    }

    /// One that is there already, and stays.
    pub fn adopt(directory: &Path) -> Result<Self, InstanceError> {
        Ok(Self { directory: directory.to_owned(), state: read(directory)?, stays: true })
    }

    /// Keeps the directory when this is dropped.
    pub fn stay(&mut self) {
        self.stays = true;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.stays
            && let Err(error) = remove(&self.directory)
        {
            tracing::error!(%error, "the instance's directory stays behind");
        }
    }
}

// === impl State ===

impl State {
    /// True when programs in this cgroup are this instance's.
    pub fn holds(&self, cgroup: &CgroupPath) -> bool {
        self.cgroups.iter().chain(&self.armed).any(|held| held.contains(cgroup))
    }

    /// True while the process that set it up runs.
    pub fn is_alive(&self) -> bool {
        !self.is_of_another_boot() && start_time(self.pid).is_some_and(|started| started == self.started)
    }

    /// The machine was started again since: numbers of links and namespaces are others' by now, and what they named is gone.
    /// (A Pod's volumes outlive a reboot of its node.)
    pub fn is_of_another_boot(&self) -> bool {
        let now = boot();
        !self.boot.is_empty() && !now.is_empty() && self.boot != now
    }
}

/// The directories of all instances.
pub fn directories(run_directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(run_directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

/// Removes what processes have left that were killed while they claimed a name.
pub fn remove_abandoned_claims(run_directory: &Path) {
    for entry in fs::read_dir(run_directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix('.')
            .and_then(|name| name.rsplit_once('.'))
            .and_then(|(_, pid)| pid.parse().ok());
        if pid.is_some_and(|pid| start_time(pid).is_none())
            && let Err(error) = remove(&entry.path())
        {
            tracing::warn!(%error, "an abandoned claim stays");
        }
    }
}

/// What an instance wrote down. Refused if anybody but us or root could have written it: it is acted on.
pub fn read(directory: &Path) -> Result<State, InstanceError> {
    let metadata = fs::symlink_metadata(directory).map_err(file("look at", directory))?;
    let ours = metadata.uid() == 0 || metadata.uid() == nix::unistd::geteuid().as_raw();
    if !metadata.is_dir() || !ours || metadata.mode() & 0o022 != 0 {
        return Err(InstanceError::Untrusted { path: directory.to_owned(), owner: metadata.uid() });
    }
    let path = directory.join(STATE_FILE);
    let text = fs::read(&path).map_err(file("read", &path))?;
    serde_json::from_slice(&text).map_err(|error| file("read", &path)(error.into()))
}

/// Removes an instance's directory, and the one that holds all when it is empty. Fine when it is gone.
pub fn remove(directory: &Path) -> Result<(), InstanceError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove", directory)(error));
        }
        _ => {}
    }
    if let Some(parent) = directory.parent() {
        // Fails while other instances are there.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// The last instance to end takes `run_directory` along, which may be just between the two steps: then once more.
fn make_scratch(run_directory: &Path, scratch: &Path) -> Result<(), InstanceError> {
    // Whatever the umask: `read` refuses a directory that others may write to.
    let ours_to_write = || fs::DirBuilder::new().mode(0o755).create(scratch);
    let make = || fs::create_dir_all(run_directory).and_then(|()| ours_to_write());
    let again = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { make() } else { Err(error) };
    make().or_else(again).map_err(file("create", scratch))
}

fn file(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> InstanceError {
    move |cause| InstanceError::File { operation, path: path.to_owned(), cause }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            ": run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and a directory that is yours"
        }
        _ => "",
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Field 22 of `/proc/PID/stat`. The command's name, field 2, may hold spaces and parentheses.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let state = after_name.split_whitespace().next()?;
    (state != "Z").then_some(())?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths() {
        for bad in ["", ".", "..", "a/b", "-x", "a b", "ä", &"x".repeat(65), "a.b"] {
            assert!(InstanceName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in ["run-1", "A-b_c", "0"] {
            assert!(InstanceName::try_from(good.to_owned()).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_name_is_taken_once_and_given_back() {
        let run = std::env::temp_dir().join(format!("sidecar-instance-{}", std::process::id()));
        let name: InstanceName = "one".parse().unwrap();
        let instance = Instance::claim(&run, name.clone(), Owner::Process).unwrap();
        let mut state = read(instance.directory()).unwrap();
        assert!(state.is_alive());
        state.boot = "9b0b3a8e-8f3b-4f5e-b6a4-2f6ac9a6c0aa".to_owned();
        assert!(!state.is_alive() && state.is_of_another_boot());
        let again = Instance::claim(&run, name.clone(), Owner::Process).unwrap_err();
        assert!(again.to_string().contains("in use by process"), "{again}");
        drop(instance);
        assert!(!run.exists(), "the last instance takes the directory along");
        drop(Instance::claim(&run, name, Owner::Process).unwrap());
    }

    #[test]
    fn a_dead_process_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(start_time(pid), None);
    }

    #[test]
    fn claims_of_the_dead_are_removed() {
        let run = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (dead, own) = (
            run.path().join(format!(".a.{}", child.id())),
            run.path().join(format!(".b.{}", std::process::id())),
        );
        fs::create_dir(&dead).unwrap();
        fs::create_dir(&own).unwrap();
        remove_abandoned_claims(run.path());
        assert!(!dead.exists() && own.exists());
    }
}
