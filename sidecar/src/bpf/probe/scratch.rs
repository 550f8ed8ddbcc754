//! Where the self-test takes place: a network namespace, a mount namespace and a cgroup of its own, as far as that is
//! permitted. All of it goes when the thread ends and the guards are dropped.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use super::Failure;
use crate::bpf::pins;
use crate::host::cgroup::{CgroupError, CgroupPath, Hierarchy};

/// Addresses for documentation (RFC 5737, RFC 3849), which lo has in a network namespace of our own.
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The kernel makes these directories for these file systems.
const CGROUP: &str = "/sys/fs/cgroup";
const BPFFS: &str = "/sys/fs/bpf";

/// The namespaces of the calling thread.
pub(super) struct Place {
    /// The network namespace is the test's own.
    own_network: bool,
    /// What is mounted here is seen by this thread only.
    own_mounts: bool,
    lo: Result<(), Failure>,
}

/// A cgroup with this process in it. Dropping this moves the process back and removes the cgroup.
pub(super) struct Cgroup {
    hierarchy: Hierarchy,
    /// It was mounted before.
    visible: bool,
    home: CgroupPath,
    own: CgroupPath,
}

/// A directory on a bpffs, removed when dropped.
pub(super) struct Pins {
    directory: PathBuf,
    /// The bpffs that everybody sees.
    mounted: Option<PathBuf>,
}

// === impl Place ===

impl Place {
    /// Moves the calling thread to namespaces of its own, or leaves it where it is.
    pub(super) fn enter() -> Self {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
            tracing::debug!(%errno, "the self-test takes place in this network namespace");
            return Self { own_network: false, own_mounts: false, lo: Ok(()) };
        }
        let lo = configure_lo().map_err(|error| Failure {
            detail: format!("set up lo of a network namespace: {error}"),
            remedy: super::remedy(&error),
        });
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let own_mounts = mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_ok();
        Self { own_network: true, own_mounts, lo }
    }

    /// Fails when the network namespace could be made, but not set up.
    pub(super) fn usable(&self) -> Result<(), Failure> {
        self.lo.clone()
    }

    /// The network namespace, in words.
    pub(super) fn network(&self) -> &'static str {
        if self.own_network { "a network namespace of its own" } else { "this network namespace" }
    }

    /// An address of this network namespace that is not loopback.
    pub(super) fn address(&self, like: IpAddr) -> Option<IpAddr> {
        let own = if like.is_ipv4() { V4.into() } else { V6.into() };
        if self.own_network { Some(own) } else { source_address(like, own) }
    }
}

/// The address from which packets to `destination` would leave. None is sent: UDP's connect() only looks for a route.
fn source_address(unspecified: IpAddr, destination: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((unspecified, 0)).ok()?;
    socket.connect((destination, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// Brings lo up and gives it addresses (netdevice(7)). Without IPv6 in the kernel, only that of IPv4.
fn configure_lo() -> io::Result<()> {
    let v4 = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let up = libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    request(&v4, libc::SIOCSIFFLAGS, &interface("lo", libc::__c_anonymous_ifr_ifru { ifru_flags: up }))?;
    // A second address is an alias.
    request(&v4, libc::SIOCSIFADDR, &interface("lo:1", address(V4)))?;
    let address = libc::in6_ifreq {
        ifr6_addr: libc::in6_addr { s6_addr: V6.octets() },
        ifr6_prefixlen: 128,
        // lo has index 1 in every network namespace (include/net/flow.h, LOOPBACK_IFINDEX).
        ifr6_ifindex: 1,
    };
    let v6 = Socket::new(Domain::IPV6, Type::DGRAM, None);
    if let Err(error) = v6.and_then(|v6| request(&v6, libc::SIOCSIFADDR, &address)) {
        tracing::debug!(%error, "the self-test goes on without IPv6");
    }
    Ok(())
}

fn interface(name: &str, value: libc::__c_anonymous_ifr_ifru) -> libc::ifreq {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    libc::ifreq { ifr_name, ifr_ifru: value }
}

/// A `sockaddr_in` (ip(7)) in the form of a `sockaddr`: port and address, in network order.
fn address(ip: Ipv4Addr) -> libc::__c_anonymous_ifr_ifru {
    let mut sa_data = [0; 14];
    for (to, from) in sa_data[2..].iter_mut().zip(ip.octets()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "address families are small")]
    let sa_family = libc::AF_INET as libc::sa_family_t;
    libc::__c_anonymous_ifr_ifru { ifru_addr: libc::sockaddr { sa_family, sa_data } }
}

fn request<T>(socket: &Socket, request: libc::Ioctl, argument: &T) -> io::Result<()> {
    // SAFETY: these requests read a struct of the type that they are given here, and write nothing.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, std::ptr::from_ref(argument)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// === impl Cgroup ===

impl Cgroup {
    /// Makes a cgroup below that of this process, and moves the process there.
    pub(super) fn enter(place: &Place) -> Result<Self, CgroupError> {
        let visible = Hierarchy::visible().is_some();
        if !visible && !place.own_mounts {
            return Err(CgroupError::Missing);
        }
        let entered = Self::make(Hierarchy::find(Path::new(CGROUP))?, visible);
        if entered.is_err() && visible && place.own_mounts {
            // In a container, what is mounted may be read-only.
            return Self::make(Hierarchy::mounted_on(Path::new(CGROUP))?, visible);
        }
        entered
    }

    fn make(hierarchy: Hierarchy, visible: bool) -> Result<Self, CgroupError> {
        let home = hierarchy.own()?;
        let own = home.child(&scratch_name());
        hierarchy.create(&own)?;
        let cgroup = Self { hierarchy, visible, home, own };
        cgroup.hierarchy.enter(&cgroup.own)?;
        Ok(cgroup)
    }

    /// Where the hierarchy is, in words.
    pub(super) fn shown(&self) -> String {
        if self.visible {
            format!("mounted on {}", self.hierarchy.root.display())
        } else {
            "not mounted: every instance mounts it for itself".into()
        }
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.hierarchy.directory(&self.own)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Never remove it with this process inside: that would kill it.
        let back = self.hierarchy.enter(&self.home);
        if let Err(error) = back.and_then(|()| self.hierarchy.remove(&self.own)) {
            tracing::error!(%error, "the cgroup {} stays", self.directory().display());
        }
    }
}

// === impl Pins ===

impl Pins {
    /// Makes a directory on a bpffs of this thread's own, or else on the one that everybody sees.
    pub(super) fn make(place: &Place) -> Result<Self, Failure> {
        let mounted = pins::mounted_bpffs();
        let bpffs = if place.own_mounts {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>).map_err(|errno| {
                Failure {
                    detail: format!("mount bpffs: {}", io::Error::from(errno)),
                    remedy: super::remedy(&errno.into()),
                }
            })?;
            Path::new(BPFFS)
        } else {
            mounted.as_deref().ok_or_else(|| Failure {
                detail: "none is mounted, and mounting one is not permitted; nothing would outlive the proxy"
                    .into(),
                remedy: Some("mount -t bpf bpf /sys/fs/bpf, or run with CAP_SYS_ADMIN"),
            })?
        };
        let directory = bpffs.join(scratch_name());
        fs::create_dir(&directory).map_err(|error| Failure {
            detail: format!("create {}: {error}", directory.display()),
            remedy: super::remedy(&error),
        })?;
        Ok(Self { directory, mounted })
    }

    /// Where it is, in words.
    pub(super) fn shown(&self) -> String {
        match &self.mounted {
            Some(point) => format!("mounted on {}", point.display()),
            None => "not mounted: every instance mounts its own".into(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::error!(%error, "{} stays", self.directory.display());
        }
    }
}

fn scratch_name() -> String {
    format!("sidecar-check-{}", process::id())
}
