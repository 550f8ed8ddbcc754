//! The bypass: two sockets that are each other's ends, and bytes that go from one to the other without TCP.
//!
//! Userspace decides *when* a connection is looked at, the kernel half *whether* it may be enrolled, and for each
//! message whether it may be redirected.

use crate::address::Endpoint;
use crate::flow::NetnsCookie;
use crate::shared;

/// Where fields are in the running kernel's structures, in bytes from their start; read from its BTF at load time.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// `struct sock`: `__sk_common.skc_cookie`.
    pub sock_cookie: u32,
    /// `struct sock`: `__sk_common.skc_state`.
    pub sock_state: u32,
    /// `struct sock`: `sk_backlog.rmem_alloc`, which the kernel calls `sk_rmem_alloc`.
    pub sock_rmem_alloc: u32,
    /// `struct sock`: `sk_rcvbuf`.
    pub sock_rcvbuf: u32,
    /// `struct sock`: `sk_rcvlowat`.
    pub sock_rcvlowat: u32,
    /// `struct sock`: `__sk_common.skc_flags`, which the kernel calls `sk_flags`.
    pub sock_flags: u32,
    /// `struct sock`: the number of the bit `SOCK_RCVBUF_LOCK` in `sk_userlocks`, from the structure's start.
    pub sock_rcvbuf_lock: u32,
    /// `struct sock`: `__sk_common.skc_net.net`.
    pub sock_net: u32,
    /// `struct net`: `ipv4.sysctl_tcp_rmem`, of which the third is the greatest.
    pub net_tcp_rmem: u32,
    /// `struct sock`: `sk_socket`.
    pub sock_socket: u32,
    /// `struct socket`: `sk`.
    pub socket_sk: u32,
    /// `struct socket`: `file`.
    pub socket_file: u32,
    /// `struct file`: `f_flags`.
    pub file_flags: u32,
    /// `struct file`: `f_ep`, the epoll instances that watch it.
    pub file_epoll: u32,
    /// `struct file`: `private_data`.
    pub file_private: u32,
    /// `struct task_struct`: `files`.
    pub task_files: u32,
    /// `struct files_struct`: `fdt`.
    pub files_table: u32,
    /// `struct fdtable`: `fd`.
    pub table_files: u32,
    /// `struct inet_connection_sock`: `icsk_ulp_ops`.
    pub csk_ulp_ops: u32,
    /// `struct tcp_sock`: `write_seq`.
    pub tcp_write_seq: u32,
    /// `struct tcp_sock`: `snd_una`.
    pub tcp_snd_una: u32,
    /// `struct tcp_sock`: `copied_seq`.
    pub tcp_copied_seq: u32,
    /// `struct tcp_sock`: `rcv_nxt`.
    pub tcp_rcv_nxt: u32,
    /// `struct tcp_sock`: `rcv_wup`.
    pub tcp_rcv_wup: u32,
    /// `struct tcp_sock`: `rcv_wnd`.
    pub tcp_rcv_wnd: u32,
    /// The number of the bit `SOCK_ZEROCOPY` in `sk_flags`.
    pub zerocopy_bit: u32,
    /// The kernel's number of the type `struct tcp_sock`.
    pub type_tcp_sock: u32,
    /// That of `struct net`.
    pub type_net: u32,
    /// That of `struct socket`.
    pub type_socket: u32,
    /// That of `struct file`.
    pub type_file: u32,
    /// That of the function `bpf_rdonly_cast` (Linux 6.2, a35b9af4ec2c); 0: there is none.
    pub rdonly_cast: u32,
}

/// What stands for the number of `bpf_rdonly_cast` in programs until they are loaded; no helper has it.
pub const RDONLY_CAST: u32 = 0x7fff_0001;

/// One end of an observed or enrolled pair: the value of the map `PEERS`, under the socket's cookie.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    /// The cookie of the other end.
    pub cookie: u64,
    /// The address of the other end's `struct tcp_sock`; only valid while the cookie found there is the above.
    pub address: u64,
    /// What this end sent.
    pub sent: Counts,
    /// What the other end had sent when it closed.
    pub received: Counts,
    /// Bits of [`end`].
    pub flags: u32,
    /// Not 0: the program's end was spliced from (splice(2)), which sees nothing of what is redirected. The same at both
    /// ends.
    pub spliced: u32,
    /// Not 0: the program's end was seen in blocking mode. Kept at the proxy's end.
    pub blocking: u32,
    /// The sequence number after the last byte that TCP brought to this end and that went to the queue of redirected ones.
    pub gathered: u32,
    /// Not 0: its program has let go of this end; its entry goes when TCP is done with it.
    pub released: u32,
    /// Not 0: bytes of this connection could not be handed on, so nothing more comes or goes. The same at both ends.
    pub broken: u32,
    /// Which arming made this entry.
    pub arming: u32,
    /// Always 0.
    pub reserved: u32,
    /// The cookie under which this entry is. The kernel may use a removed entry for another at once, while a program still
    /// holds it (since Linux 6.1): who writes what others decide by looks first whether it still is its own.
    pub own: u64,
}

/// Bits of [`Peer::flags`].
pub mod end {
    /// This end is the proxy's, whose sockets are always non-blocking.
    pub const PROXY: u32 = 1 << 0;
    /// What this end sends may be redirected.
    pub const REDIRECT: u32 = 1 << 1;
}

/// What one end of a pair sent, since it was first looked at.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Messages redirected. A message is what the kernel handles at once of a write: up to 17 fragments of memory.
    pub messages: u64,
    /// Bytes redirected.
    pub bytes: u64,
    /// Messages that went by TCP, by [`Fallback`].
    pub fallbacks: [u32; FALLBACKS],
}

/// Why a message of an enrolled socket went by TCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Fallback {
    /// This direction is not to be redirected, or is not yet.
    Off = 0,
    /// Earlier bytes of this direction are on their way by TCP.
    Unacknowledged = 1,
    /// The receiver has not read what came by TCP.
    Unread = 2,
    /// The receiver's buffer has no room: TCP's window is to hold the sender.
    Full = 3,
    /// The receiver is closing or gone, is not enrolled yet, or another socket has its place.
    Gone = 4,
    /// The receiver's program reads in a way that would not see redirected bytes, or not rightly.
    Reader = 5,
}

/// How many reasons there are.
pub const FALLBACKS: usize = 6;

impl Fallback {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); FALLBACKS] = [
        (Self::Off, "off"),
        (Self::Unacknowledged, "unacknowledged"),
        (Self::Unread, "unread"),
        (Self::Full, "full"),
        (Self::Gone, "gone"),
        (Self::Reader, "reader"),
    ];
}

/// What userspace asks the program `sidecar_enrol`, which it runs itself (`BPF_PROG_TEST_RUN`); the packet that it is
/// given holds this after [`ETHERNET`] bytes, and the [`Answer`] afterwards. Or it asks `sidecar_ask` by a UDP packet from a socket to
/// itself, and gets the answer by [`crate::option::ANSWER`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// The network namespace of both sockets, which is the caller's.
    pub netns: NetnsCookie,
    /// The cookie of the proxy's socket.
    pub cookie: u64,
    /// The proxy's end.
    pub local: Endpoint,
    /// The program's end.
    pub remote: Endpoint,
    /// An [`Ask`] as its number.
    pub ask: u32,
    /// Bits of [`term`], for [`Ask::Enrol`].
    pub terms: u32,
}

/// Where the [`Question`] begins: the kernel takes what comes before for an Ethernet header.
pub const ETHERNET: usize = 14;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Ask {
    /// Whether the other end is here, and how its program uses it.
    Look = 1,
    /// The same, and to enrol both if nothing speaks against it.
    Enrol = 2,
    /// What was counted so far.
    Count = 3,
    /// The same; nothing more will be asked of this pair.
    Forget = 4,
    /// Whether the other end is another proxy's of this machine, and to enrol this one if so. Both ends ask.
    Meet = 5,
}

/// Bits of [`Question::terms`].
pub mod term {
    /// Redirect also what the proxy sends to the program, not only the other way.
    pub const BOTH_WAYS: u32 = 1 << 0;
    /// Only if the program watches its socket by epoll.
    pub const EPOLL: u32 = 1 << 1;
    /// For [`super::Ask::Count`] and [`super::Ask::Forget`]: the other end is another proxy's, or was to be.
    pub const SAME_NODE: u32 = 1 << 2;
}

/// The answer to a [`Question`]. An agent and its Pods' proxies may be of different versions: its size stays.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// Bits of [`seen`].
    pub seen: u32,
    /// Which arming answers: a packet is answered by the one that is there now.
    pub arming: u32,
    /// What the program sent to the proxy.
    pub to_proxy: Counts,
    /// What the proxy sent to the program.
    pub to_program: Counts,
}

/// Bits of [`Answer::seen`].
pub mod seen {
    /// The other end is a socket of an armed program on this machine.
    pub const PAIR: u32 = 1 << 0;
    /// Its file is there and non-blocking.
    pub const NONBLOCKING: u32 = 1 << 1;
    /// It is watched by epoll.
    pub const EPOLL: u32 = 1 << 2;
    /// Its program has spliced from it.
    pub const SPLICED: u32 = 1 << 3;
    /// It was in blocking mode at some time since the first look.
    pub const BLOCKED: u32 = 1 << 4;
    /// It has an upper-layer protocol, such as kTLS.
    pub const ULP: u32 = 1 << 5;
    /// Its program asked to be woken for no less than so many bytes (`SO_RCVLOWAT`).
    pub const RCVLOWAT: u32 = 1 << 6;
    /// Its program waits for the kernel to tell when it has sent (`SO_ZEROCOPY`).
    pub const ZEROCOPY: u32 = 1 << 7;
    /// Both ends are enrolled.
    pub const ENROLLED: u32 = 1 << 8;
    /// A map is full.
    pub const NO_ROOM: u32 = 1 << 9;
    /// The kernel refused to enrol a socket.
    pub const REFUSED: u32 = 1 << 10;
    /// Its program has closed it.
    pub const GONE: u32 = 1 << 11;
    /// Bytes are on their way, or wait: ask again.
    pub const BUSY: u32 = 1 << 12;
    /// Another socket of this machine has the same addresses and ports at both ends.
    pub const AMBIGUOUS: u32 = 1 << 13;
    /// This arming shares nothing with other instances.
    pub const ALONE: u32 = 1 << 14;
    /// Bytes of it could not be handed on: it was broken off.
    pub const BROKEN: u32 = 1 << 15;
}

/// The ends of a connection as the socket sees them that a proxy offers to whoever has the other end: the key of the map
/// `NODE_OFFERS`. Network namespaces may use the same addresses, so it says who may be meant, and proves nothing.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OfferKey {
    /// Where the socket is.
    pub local: Endpoint,
    /// Where the other end is.
    pub remote: Endpoint,
}

/// A socket that is offered.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Its cookie.
    pub cookie: u64,
    /// The address of its `struct tcp_sock`; only valid while the cookie found there is the above.
    pub address: u64,
}

shared! {
    Layout = 124;
    Counts = 40;
    Peer = 136;
    Question = 72;
    Answer = 88;
    OfferKey = 48;
    Offer = 16;
}
