//! Loading programs and maps into the kernel, with what this kernel has.

use std::borrow::Cow;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use aya::programs::{CgroupSock, CgroupSockAddr, CgroupSockopt, Program, ProgramError, SkLookup, SockOps};
use aya::{Ebpf, EbpfLoader};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};
use sidecar_common::bypass::{Layout, RDONLY_CAST};
use sidecar_common::flow::NetnsCookie;

use super::attach::ProgramName;
use super::node::{self, Place};
use super::{BpfError, btf, link};

/// The kernel half, as built by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sidecar-ebpf"));

/// Loaded programs and maps, attached to nothing yet.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    /// What this kernel lacks.
    pub features: Features,
    /// Why this kernel has no bypass; `None`: it may have one.
    pub(super) no_bypass: Option<String>,
    /// The bounds of `RECORDS` and `ORIGINS`.
    pub(super) capacities: [u32; 2],
    /// What it shares with the machine's other instances, until it holds that.
    pub(super) shared: Option<Place>,
}

/// What older kernels lack. Each is tried by loading with it, so no version number is trusted. The programs read these
/// as constants, and the verifier does not look at what they rule out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// sock_ops and sockopt programs can tell network namespaces apart (5.15).
    pub netns_cookie: bool,
    /// The program behind a listener is known from its listen() on (6.16), not only from its first accept().
    pub program_at_listen: bool,
    /// sk_lookup programs see the interface that a packet came in on (5.17).
    pub ingress_interface: bool,
}

/// What the maps have room for. The kernel takes memory for buckets, not for entries that are not there: some 150 bytes for
/// each connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Connections at once.
    pub connections: u32,
    /// Listeners that programs ever have, by address and port.
    pub listeners: u32,
    /// Ports that are included or excluded.
    pub ports: u32,
    /// Somebody reads events.
    pub events: bool,
    /// Connections to proxies of other instances may be enrolled.
    pub same_node: bool,
}

/// From what every kernel that we know has, to the least that we ask for: 6.16, 5.17, 5.15 and 5.10.
const CANDIDATES: [Features; 4] = [
    Features { netns_cookie: true, program_at_listen: true, ingress_interface: true },
    Features { netns_cookie: true, program_at_listen: false, ingress_interface: true },
    Features { netns_cookie: true, program_at_listen: false, ingress_interface: false },
    Features { netns_cookie: false, program_at_listen: false, ingress_interface: false },
];

/// The entries of `ORIGINS` for each connection: its own, the one that the proxy makes for it, and as many again for
/// sockets that outlive theirs.
const ORIGINS_PER_CONNECTION: u32 = 4;

/// The entries of `PEERS` and `SOCKETS` for each connection: both ends of one hop. A connection whose server is on this
/// machine too takes twice as many; when they are used up, later hops stay on TCP.
const PEERS_PER_CONNECTION: u32 = 2;
/// The entries of `DIALS`: a socket of the proxy has one from the moment before its connect() until that has begun.
const MOST_DIALS: u32 = 4_096;
/// Those of the self-test, which are there until it ends.
const PEERS_OF_PROOF: u32 = 256;

impl Features {
    /// What is missing, in words; empty when nothing is.
    pub fn degradations(self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.netns_cookie {
            missing.push(
                "no network namespace cookies in sock_ops (Linux 5.15): ports of armed programs in other network \
                 namespaces are taken for this one's",
            );
        }
        if !self.program_at_listen {
            missing
                .push("no task in sock_ops (Linux 6.16): a server's pid is known from its first accept() on");
        }
        if !self.ingress_interface {
            missing.push(
                "no interface in sk_lookup (Linux 5.17): with route_localnet, what other machines send to \
                 127.0.0.0/8 passes untouched",
            );
        }
        missing
    }
}

/// Loads all programs. `netns` is the network namespace whose inbound connections will be steered.
pub fn load(netns: NetnsCookie, room: Room) -> Result<Kernel, BpfError> {
    // Before 5.11 maps and programs count against RLIMIT_MEMLOCK, and aya raises it, once in a process. CMD is not to
    // inherit that; what is loaded stays.
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK);
    let loaded = if room.same_node { load_sharing(netns, room) } else { load_best(netns, room, None) };
    if let Ok((soft, hard)) = limit {
        // Lowering is always allowed.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard);
    }
    loaded
}

/// With the maps that the machine's instances share; where that cannot be, without.
fn load_sharing(netns: NetnsCookie, room: Room) -> Result<Kernel, BpfError> {
    let shared = || {
        let mut place = Place::find(OBJECT)?;
        let mut kernel = load_best(netns, room, Some(place.pins()))?;
        if kernel.no_bypass.is_none() {
            place.publish(&mut kernel)?;
            kernel.shared = Some(place);
        }
        Ok(kernel)
    };
    shared().or_else(|error: BpfError| {
        tracing::warn!(%error, "connections to other proxies of this machine stay with TCP");
        load_best(netns, room, None)
    })
}

fn load_best(netns: NetnsCookie, room: Room, shared: Option<&Path>) -> Result<Kernel, BpfError> {
    let mut refused = None;
    let layout = btf::layout().map(with_cast_if_accepted);
    for features in CANDIDATES {
        match load_with(features, layout.as_ref().ok(), netns, room, shared) {
            Ok(ebpf) => {
                let capacities = [room.connections, origins_for(room.connections)];
                return Ok(Kernel { ebpf, features, no_bypass: layout.err(), capacities, shared: None });
            }
            // Without privilege no candidate is better.
            Err(error @ BpfError::NotPermitted { .. }) => return Err(error),
            // The last one asks for the least: its refusal names what cannot be done without.
            Err(error) => {
                tracing::debug!(?features, %error, "this kernel refuses");
                refused = Some(error);
            }
        }
    }
    Err(refused.unwrap_or_else(|| BpfError::Load { reason: "no candidate".to_owned() }))
}

fn load_with(
    features: Features,
    layout: Option<&Layout>,
    netns: NetnsCookie,
    room: Room,
    shared: Option<&Path>,
) -> Result<Ebpf, BpfError> {
    let shared = shared.filter(|_| layout.is_some());
    let is_shared = u32::from(shared.is_some());
    let connections = room.connections;
    let peers = if layout.is_some() {
        connections.saturating_mul(PEERS_PER_CONNECTION).max(PEERS_OF_PROOF)
    } else {
        1
    };
    let layout = layout.copied().unwrap_or_default();
    let netns = if features.netns_cookie { netns } else { 0 };
    // Part of a random number is as random as all of it.
    let arming = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    let netns_cookie = u32::from(features.netns_cookie);
    let task = u32::from(features.program_at_listen);
    let ingress_ifindex = u32::from(features.ingress_interface);
    let object = with_cast(layout.rdonly_cast);
    let mut loader = EbpfLoader::new();
    if !room.events {
        loader.map_max_entries("EVENTS", page_size());
    }
    if let Some(pins) = shared {
        for (name, room) in node::MAPS {
            loader.map_pin_path(name, pins.join(name)).map_max_entries(name, room);
        }
    }
    let mut ebpf = loader
        .override_global("LOOKUP_NETNS", &netns, true)
        .override_global("ARMING", &arming, true)
        .override_global("HAS_NETNS_COOKIE", &netns_cookie, true)
        .override_global("HAS_TASK_IN_SOCKOPS", &task, true)
        .override_global("HAS_INGRESS_IFINDEX", &ingress_ifindex, true)
        .override_global("SAME_NODE", &is_shared, true)
        .override_global("LAYOUT", &layout, true)
        .map_max_entries("STATS", possible_cpus()?)
        .map_max_entries("PEERS", peers)
        .map_max_entries("SOCKETS", peers)
        .map_max_entries("PORTS", room.ports.max(1))
        .map_max_entries("SERVICES", room.listeners)
        .map_max_entries("RECORDS", connections)
        .map_max_entries("DIALS", connections.min(MOST_DIALS))
        .map_max_entries("ORIGINS", origins_for(connections))
        .load(&object)
        .map_err(|error| BpfError::load("create its maps", &error))?;
    for name in ProgramName::ALL {
        let program = ebpf
            .program_mut(name.symbol())
            .ok_or_else(|| BpfError::Load { reason: format!("{} is not in the object", name.symbol()) })?;
        load_program(program).map_err(|error| BpfError::load(&format!("load {}", name.symbol()), &error))?;
    }
    Ok(ebpf)
}

/// A kernel that names the function may refuse to call it, as one that interprets programs does.
fn with_cast_if_accepted(layout: Layout) -> Layout {
    let Layout { type_tcp_sock, rdonly_cast, .. } = layout;
    let of = |code: u64, value: u32| code | u64::from(value) << 32;
    // r1 = 0, r2 = the type, the call, r0 = 0, exit.
    let cast =
        [of(0x01b7, 0), of(0x02b7, type_tcp_sock), of(0x2085, rdonly_cast), of(0x00b7, 0), of(0x95, 0)];
    let accepted = rdonly_cast != 0 && link::accepts(&cast);
    Layout { rdonly_cast: if accepted { rdonly_cast } else { 0 }, ..layout }
}

/// The programs, in which calls of [`RDONLY_CAST`] are calls of this function of the kernel; 0: it has none, and they are never
/// reached. (aya knows no functions of the kernel.)
fn with_cast(function: u32) -> Cow<'static, [u8]> {
    /// `BPF_JMP | BPF_CALL`, and as the source register `BPF_PSEUDO_KFUNC_CALL` (include/uapi/linux/bpf.h).
    const CALL: u8 = 0x85;
    const OF_KERNEL: u8 = 2 << 4;
    if function == 0 {
        return Cow::Borrowed(OBJECT);
    }
    let mut object = OBJECT.to_vec();
    for instruction in object.chunks_exact_mut(8) {
        if instruction[..4] == [CALL, 0, 0, 0] && instruction[4..] == RDONLY_CAST.to_le_bytes() {
            instruction[1] = OF_KERNEL;
            instruction[4..].copy_from_slice(&function.to_le_bytes());
        }
    }
    Cow::Owned(object)
}

/// The least that the kernel gives a ring buffer (`ringbuf_map_alloc`).
fn page_size() -> u32 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u32::try_from(size).ok()).unwrap_or(4_096)
}

/// One more than the highest number of a CPU that a program may ever run on.
fn possible_cpus() -> Result<u32, BpfError> {
    const PATH: &str = "/sys/devices/system/cpu/possible";
    let text = fs::read_to_string(PATH).map_err(|cause| BpfError::File {
        operation: "read",
        path: PATH.into(),
        cause,
    })?;
    // As "0-3", or "0,2-3" where some numbers are nobody's (Documentation/admin-guide/cputopology.rst).
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok());
    last.map(|last| last.saturating_add(1))
        .ok_or_else(|| BpfError::Load { reason: format!("{PATH} names no CPU: {text:?}") })
}

fn origins_for(max_connections: u32) -> u32 {
    max_connections.saturating_mul(ORIGINS_PER_CONNECTION)
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => CgroupSockAddr::load(program),
        Program::CgroupSockopt(program) => CgroupSockopt::load(program),
        Program::CgroupSock(program) => CgroupSock::load(program),
        Program::SockOps(program) => SockOps::load(program),
        Program::SkLookup(program) => SkLookup::load(program),
        other => Err(ProgramError::UnexpectedProgramType).inspect_err(|_| {
            tracing::error!(kind = ?other.prog_type(), "the object holds a program of an unknown kind");
        }),
    }
}

/// True when the running kernel describes its types, which newer features ask for.
pub fn has_btf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_kernels_function_are_filled_in() {
        let calls = |object: &[u8], register: u8, number: u32| {
            let [a, b, c, d] = number.to_le_bytes();
            object.chunks_exact(8).filter(|chunk| *chunk == [0x85, register, 0, 0, a, b, c, d]).count()
        };
        let open = calls(OBJECT, 0, RDONLY_CAST);
        assert!(open > 0);
        let filled = with_cast(77_777);
        assert_eq!((calls(&filled, 0, RDONLY_CAST), calls(&filled, 0x20, 77_777)), (0, open));
        assert!(matches!(with_cast(0), Cow::Borrowed(_)));
    }
}
