//! All maps and load-time constants. Sizes are defaults; the loader sets those that the configuration bounds.
//!
//! Maps with many short-lived entries are allocated on demand: an idle instance costs little. No correctness rests
//! on eviction: a full map refuses the next entry, and the caller counts it. (`NODE_OFFERS` alone evicts.)
//!
//! # Safety of what lookups return
//!
//! The verifier bounds every access to a value, so memory is safe. What it does not forbid: since Linux 6.1 an entry that
//! is removed on another CPU may be used for another key at once, while this program still holds it. So entries that
//! are read or written here belong to a connection that the running hook itself keeps alive (its socket is locked or
//! just being looked up), or are never removed while it matters (`PROXY`, `SERVICES`). A proxy's end of the bypass goes while
//! its socket may still be called for: see `Peer::own`.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, RingBuf, SockHash};
use sidecar_common::address::CidrKey;
use sidecar_common::bypass::{Answer, Counts, FALLBACKS, Offer, OfferKey, Peer};
use sidecar_common::connection::Record;
use sidecar_common::flow::{
    FlowKey, Listener, ListenerKey, NetnsCookie, Origin, Program, Service, ServiceKey,
};
use sidecar_common::option::Forward;
use sidecar_common::settings::{PortKey, Settings};
use sidecar_common::stats::{Counters, Stat};

/// The instance's settings.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Ports that are included or excluded, as many as there are.
#[map]
pub static PORTS: HashMap<PortKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Networks that are included. The value is the prefix length that matched.
#[map]
pub static INCLUDE: LpmTrie<CidrKey, u32> = LpmTrie::with_max_entries(16_384, 0);

/// Networks that are excluded; they win.
#[map]
pub static EXCLUDE: LpmTrie<CidrKey, u32> = LpmTrie::with_max_entries(16_384, 0);

/// The proxy's listeners that are up. What is not here is down.
#[map]
pub static PROXY: HashMap<ListenerKey, Listener> = HashMap::with_max_entries(1_024, BPF_F_NO_PREALLOC);

/// The same listeners as sockets, for the lookup program. Entries go by themselves when a socket closes.
#[map]
pub static PROXY_SOCKETS: SockHash<ListenerKey> = SockHash::with_max_entries(1_024, 0);

/// What the proxy said its sockets are for, by cookie: a [`sidecar_common::flow::Role`].
#[map]
pub static ROLES: HashMap<u64, u32> = HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);

/// Sockets of the proxy between connect() and `TCP_CONNECT_CB`, by cookie.
#[map]
pub static DIALS: HashMap<u64, Forward> = HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);

/// Connections of armed programs, by the cookie of the program's socket. Its size is the limit of connections:
/// connect() asks it first, and `ORIGINS` has room for all that it admits.
#[map]
pub static RECORDS: HashMap<u64, Record> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// The origins of the connections to the proxy and from it. Each connection has at most one entry for either.
#[map]
pub static ORIGINS: HashMap<FlowKey, Origin> = HashMap::with_max_entries(4 * 65_536, BPF_F_NO_PREALLOC);

/// The listeners of armed programs.
#[map]
pub static SERVICES: HashMap<ServiceKey, Service> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Listeners that were there before their cgroup was armed. Userspace puts them in, and takes them out when they close.
#[map]
pub static SEEDED: HashMap<ServiceKey, Program> = HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);

/// Where [`HAS_NETNS_COOKIE`] is 0: the network namespace that the proxy dials in; 0: not known yet.
#[map]
pub static HOME: Array<NetnsCookie> = Array::with_max_entries(1, 0);

/// The ends of connections that were looked at for the bypass, by cookie. Its size is twice that of `RECORDS`: both ends
/// of the program's hop, and no more are looked at when it is full.
#[map]
pub static PEERS: HashMap<u64, Peer> = HashMap::with_max_entries(2 * 65_536, BPF_F_NO_PREALLOC);

/// Enrolled sockets, by cookie. Entries go by themselves when a socket closes, and only then: removing a live one would
/// drop what it has not read. The map lives as long as one of them does.
#[map]
pub static SOCKETS: SockHash<u64> = SockHash::with_max_entries(2 * 65_536, 0);

/// The same as [`PEERS`] for connections between two proxies of this machine. This and the next two are the machine's: all
/// loads of the same object share them, so that sockets of different network namespaces find each other.
#[map]
pub static NODE_PEERS: HashMap<u64, Peer> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The same as [`SOCKETS`] for these.
#[map]
pub static NODE_SOCKETS: SockHash<u64> = SockHash::with_max_entries(1, 0);

/// Proxies' sockets whose other end may be another proxy's. The oldest make room: most are to other machines, and one that is
/// missed leaves its connection to TCP.
#[map]
pub static NODE_OFFERS: LruHashMap<OfferKey, Offer> = LruHashMap::with_max_entries(1, 0);

/// What was asked by packets, by the port of the asking socket: until it is taken, a moment later. One that nobody takes
/// stays until its port asks again; a proxy has one such socket, so this has room for a thousand that were killed just then.
#[map]
pub static ANSWERS: HashMap<u32, Answer> = HashMap::with_max_entries(1_024, BPF_F_NO_PREALLOC);

/// What new entries of [`PEERS`] and [`NODE_PEERS`] begin as. On the stack, which has 512 bytes, it would have no room.
static NO_PEER: Peer = Peer {
    cookie: 0,
    address: 0,
    sent: NOTHING_SENT,
    received: NOTHING_SENT,
    flags: 0,
    spliced: 0,
    blocking: 0,
    gathered: 0,
    released: 0,
    broken: 0,
    arming: 0,
    reserved: 0,
    own: 0,
};

/// The same of [`ANSWERS`].
static NO_ANSWER: Answer = Answer { seen: 0, arming: 0, to_proxy: NOTHING_SENT, to_program: NOTHING_SENT };

const NOTHING_SENT: Counts = Counts { messages: 0, bytes: 0, fallbacks: [0; FALLBACKS] };

/// The size of [`EVENTS`].
pub const EVENTS_BYTES: u32 = 512 * 1024;

/// Opens and closes for userspace.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// Counters, by the number of the CPU that counts. No per-CPU map: a program that is asked for them could not read other
/// CPUs' before 5.19.
#[map]
pub static STATS: Array<Counters> = Array::with_max_entries(1, 0);

/// The network namespace of the lookup program, which has no helper to ask for it.
#[unsafe(no_mangle)]
static LOOKUP_NETNS: Global<u64> = Global::new(0);

/// A number that no other load of these programs has.
#[unsafe(no_mangle)]
static ARMING: Global<u32> = Global::new(0);

/// 1 where sock_ops and sockopt programs have `bpf_get_netns_cookie` (5.15, 6cf1770d63dd and f1248dee954c).
#[unsafe(no_mangle)]
static HAS_NETNS_COOKIE: Global<u32> = Global::new(1);

/// 1 where sock_ops programs may ask for the current task (6.16, ee971630f20f); see
/// [`crate::record::program_of_caller`].
#[unsafe(no_mangle)]
static HAS_TASK_IN_SOCKOPS: Global<u32> = Global::new(1);

/// 1 where sk_lookup programs see the interface that a packet came in on (5.17, f89315650ba3).
#[unsafe(no_mangle)]
static HAS_INGRESS_IFINDEX: Global<u32> = Global::new(1);

/// 1 where [`NODE_PEERS`] and the two after it are shared with other loads.
#[unsafe(no_mangle)]
static SAME_NODE: Global<u32> = Global::new(0);

/// The settings. They are always there (an array's entries exist from the start); the verifier wants the check.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// See [`ARMING`].
#[inline(always)]
pub fn arming() -> u32 {
    ARMING.load()
}

/// Where both ends of enrolled connections are.
#[derive(Clone, Copy)]
pub struct Pairs {
    /// What is known of them.
    pub peers: &'static HashMap<u64, Peer>,
    /// Their sockets.
    pub sockets: &'static SockHash<u64>,
    /// They are this instance's alone, which counts what they do. Of others, each end keeps its own counts.
    pub are_own: bool,
}

/// Connections between this instance's proxy and programs.
#[inline(always)]
pub fn own_pairs() -> Pairs {
    Pairs { peers: &PEERS, sockets: &SOCKETS, are_own: true }
}

/// Connections between the machine's proxies.
#[inline(always)]
pub fn node_pairs() -> Pairs {
    Pairs { peers: &NODE_PEERS, sockets: &NODE_SOCKETS, are_own: false }
}

/// See [`NO_PEER`].
#[inline(always)]
pub fn no_peer() -> &'static Peer {
    &NO_PEER
}

/// See [`NO_ANSWER`].
#[inline(always)]
pub fn no_answer() -> &'static Answer {
    &NO_ANSWER
}

/// See [`SAME_NODE`].
#[inline(always)]
pub fn is_shared() -> bool {
    SAME_NODE.load() != 0
}

/// See [`LOOKUP_NETNS`].
#[inline(always)]
pub fn lookup_netns() -> NetnsCookie {
    LOOKUP_NETNS.load()
}

/// See [`HAS_NETNS_COOKIE`]. The verifier takes it for a constant and does not look at what it rules out.
#[inline(always)]
pub fn has_netns_cookie() -> bool {
    HAS_NETNS_COOKIE.load() != 0
}

/// True when [`HOME`] is known and another.
#[inline(always)]
pub fn is_elsewhere(netns: NetnsCookie) -> bool {
    matches!(HOME.get(0), Some(home) if *home != 0 && *home != netns)
}

/// See [`HOME`].
#[inline(always)]
pub fn set_home(netns: NetnsCookie) {
    if let Some(home) = HOME.get_ptr_mut(0) {
        // SAFETY: the pointer is to a map value that stays; one aligned store, so readers see a cookie or 0.
        unsafe { home.write_volatile(netns) };
    }
}

/// See [`HAS_TASK_IN_SOCKOPS`].
#[inline(always)]
pub fn has_task_in_sockops() -> bool {
    HAS_TASK_IN_SOCKOPS.load() != 0
}

/// See [`HAS_INGRESS_IFINDEX`].
#[inline(always)]
pub fn has_ingress_ifindex() -> bool {
    HAS_INGRESS_IFINDEX.load() != 0
}

/// Counts. Per CPU, so no atomics.
#[inline(always)]
pub fn count(stat: Stat) {
    count_by(stat, 1);
}

/// Counts several at once.
#[inline(always)]
pub fn count_by(stat: Stat, several: u64) {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counters) = STATS.get_ptr_mut(cpu) {
        // SAFETY: the pointer is to this CPU's own counters, and the program is not preempted by itself.
        unsafe { (*counters).0[stat as usize] += several };
    }
}
