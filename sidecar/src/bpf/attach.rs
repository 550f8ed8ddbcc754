//! Attaching programs to cgroups and to a network namespace, and taking them off.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{BpfError, Kernel, link};

/// The programs of the kernel half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgramName {
    /// cgroup/connect4
    Connect4,
    /// cgroup/connect6
    Connect6,
    /// cgroup/getpeername4
    Peername4,
    /// cgroup/getpeername6
    Peername6,
    /// cgroup/getsockopt
    Getsockopt,
    /// cgroup/setsockopt
    Setsockopt,
    /// cgroup/sock_release
    Release,
    /// sock_ops
    Sockops,
    /// sk_lookup
    Lookup,
}

/// Programs that are attached. Dropping this closes the links, which detaches those that are not pinned; the others
/// stay until their pins go.
#[derive(Debug, Default)]
pub struct Attachments {
    links: Vec<OwnedFd>,
    /// A directory on bpffs. Without one, links end with this process.
    pins: Option<PathBuf>,
}

// === impl ProgramName ===

impl ProgramName {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Connect4,
        Self::Connect6,
        Self::Peername4,
        Self::Peername6,
        Self::Getsockopt,
        Self::Setsockopt,
        Self::Release,
        Self::Sockops,
        Self::Lookup,
    ];

    /// What sockets of armed programs need.
    pub const OF_PROGRAMS: [Self; 6] =
        [Self::Connect4, Self::Connect6, Self::Peername4, Self::Peername6, Self::Release, Self::Sockops];

    /// What the proxy's sockets need.
    pub const OF_PROXY: [Self; 6] =
        [Self::Connect4, Self::Connect6, Self::Getsockopt, Self::Setsockopt, Self::Release, Self::Sockops];

    /// What a cgroup needs that holds both: all but the lookup program, which belongs to a network namespace.
    pub const OF_BOTH: &[Self] = match Self::ALL.split_last() {
        Some((Self::Lookup, of_cgroups)) => of_cgroups,
        _ => panic!("the lookup program is the last one"),
    };

    /// What brings new connections to the proxy. Without these, those that are under way go on.
    pub const STEERING: [Self; 3] = [Self::Connect4, Self::Connect6, Self::Lookup];

    /// Its name in the object.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Connect4 => "sidecar_connect4",
            Self::Connect6 => "sidecar_connect6",
            Self::Peername4 => "sidecar_peername4",
            Self::Peername6 => "sidecar_peername6",
            Self::Getsockopt => "sidecar_getsockopt",
            Self::Setsockopt => "sidecar_setsockopt",
            Self::Release => "sidecar_release",
            Self::Sockops => "sidecar_sockops",
            Self::Lookup => "sidecar_lookup",
        }
    }

    /// enum `bpf_attach_type` (include/uapi/linux/bpf.h).
    const fn attach_type(self) -> u32 {
        match self {
            Self::Sockops => 3,
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::Getsockopt => 21,
            Self::Setsockopt => 22,
            Self::Peername4 => 29,
            Self::Peername6 => 30,
            Self::Release => 34,
            Self::Lookup => 36,
        }
    }
}

// === impl Attachments ===

impl Attachments {
    /// Nothing yet. `pins`: where links are pinned, a directory on bpffs.
    pub fn new(pins: Option<PathBuf>) -> Self {
        Self { links: Vec::new(), pins }
    }

    /// Attaches programs to a cgroup.
    pub fn cgroup(
        &mut self,
        kernel: &mut Kernel,
        programs: &[ProgramName],
        path: &Path,
    ) -> Result<(), BpfError> {
        let directory = File::open(path).map_err(|cause| BpfError::File {
            operation: "open the cgroup",
            path: path.to_owned(),
            cause,
        })?;
        for name in programs {
            self.attach(kernel, *name, &directory, &path.display().to_string())?;
        }
        Ok(())
    }

    /// Attaches the lookup program to a network namespace.
    pub fn netns(&mut self, kernel: &mut Kernel, netns: &File) -> Result<(), BpfError> {
        self.attach(kernel, ProgramName::Lookup, netns, "the network namespace")
    }

    /// The kernel's numbers of the links, by which `sidecar detach` finds them when nothing else is left.
    pub fn link_ids(&self) -> Vec<u32> {
        self.links.iter().filter_map(|link| link::id(link).ok()).collect()
    }

    fn attach(
        &mut self,
        kernel: &mut Kernel,
        name: ProgramName,
        target: &File,
        shown: &str,
    ) -> Result<(), BpfError> {
        let failed =
            |reason: String| BpfError::Attach { program: name.symbol(), target: shown.to_owned(), reason };
        let program =
            kernel.ebpf.program(name.symbol()).ok_or_else(|| failed("not in the object".to_owned()))?;
        let program = program.fd().map_err(|error| failed(error.to_string()))?;
        let link =
            link::create(program.as_fd(), target.as_fd(), name.attach_type()).map_err(|error| match error
                .raw_os_error()
            {
                Some(libc::EPERM | libc::EACCES) => {
                    BpfError::NotPermitted { operation: format!("attach {} to {shown}", name.symbol()) }
                }
                Some(libc::E2BIG) => failed("64 programs are attached there already".to_owned()),
                _ => failed(error.to_string()),
            })?;
        let pin = self.pins.as_ref().map(|pins| pins.join(format!("{}-{}", name.symbol(), self.links.len())));
        if let Some(pin) = &pin {
            link::pin(link.as_fd(), pin).map_err(|cause| BpfError::File {
                operation: "pin a link as",
                path: pin.clone(),
                cause,
            })?;
        }
        self.links.push(link);
        Ok(())
    }
}
