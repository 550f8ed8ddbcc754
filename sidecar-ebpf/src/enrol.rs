//! Looking at the two ends of a connection, and enrolling them for the bypass. A tc program may look sockets up and put them
//! into a sockhash at any time in their life, which sock_ops programs may only as they are established. So a connection
//! is enrolled after it has shown how its program uses it. Userspace runs this program itself, on a packet that holds its
//! question (`BPF_PROG_TEST_RUN`), or has it run by sending such a packet; see `ask`.

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, BPF_NOEXIST, bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::bpf_skc_to_tcp_sock;
use aya_ebpf::helpers::generated::{
    bpf_map_delete_elem, bpf_map_update_elem, bpf_sk_lookup_tcp, bpf_sk_release,
};
use aya_ebpf::maps::SockHash;
use aya_ebpf::programs::TcContext;
use core::mem::zeroed;
use sidecar_common::address::Endpoint;
use sidecar_common::bypass::{Answer, Ask, ETHERNET, Peer, Question, end, seen, term};
use sidecar_common::flow::{FlowKey, Intent};

use crate::layout::{File, Socket};
use crate::maps::{self, ORIGINS, PEERS, Pairs, RECORDS, SOCKETS, node_pairs, own_pairs};
use crate::meet;
use crate::sock::{field, tcp};

/// What speaks against enrolling.
const OBSTACLES: u32 =
    seen::SPLICED | seen::BLOCKED | seen::ULP | seen::RCVLOWAT | seen::ZEROCOPY | seen::NO_ROOM;

/// Bits of [`seen`], as they are found. The verifier follows each number that it knows on a path of its own: with a dozen
/// bits, hundreds of thousands of instructions. So each is mixed with a zero that it cannot know.
pub struct Seen {
    bits: u32,
    zero: u32,
}

/// Answers the question in a packet that userspace runs the program on.
#[inline(always)]
pub fn answer(ctx: &TcContext) {
    let Ok(question) = ctx.load::<Question>(ETHERNET) else { return };
    let mut answer = Answer::default();
    answer_to(ctx, &question, &mut answer);
    let _ = ctx.store(ETHERNET, &answer, 0);
}

/// Answers a question; the answer is empty before.
#[inline(always)]
pub fn answer_to(ctx: &TcContext, question: &Question, answer: &mut Answer) {
    let mut seen = Seen::nothing(question);
    if question.ask == Ask::Look as u32 || question.ask == Ask::Enrol as u32 {
        look(ctx, question, &mut seen);
    }
    if question.ask == Ask::Meet as u32 {
        meet::meet(ctx, question, &mut seen);
    }
    answer.arming = maps::arming();
    let forgets = question.ask == Ask::Forget as u32;
    if question.terms & term::SAME_NODE == 0 {
        tally(question, answer, &mut seen, own_pairs());
        if forgets {
            forget(question, &seen);
        }
    } else {
        if meet::is_ours(question.cookie) {
            tally(question, answer, &mut seen, node_pairs());
        }
        if forgets {
            meet::withdraw(question);
        }
    }
    answer.seen = seen.bits;
}

impl Seen {
    #[inline(always)]
    fn nothing(question: &Question) -> Self {
        // SAFETY: a reference to a field; the compiler must not see that both are the same.
        let [one, same] = [(); 2].map(|()| unsafe { core::ptr::read_volatile(&raw const question.ask) });
        let zero = one ^ same;
        Self { bits: zero, zero }
    }

    #[inline(always)]
    pub fn note(&mut self, bit: u32, is_seen: bool) {
        if is_seen {
            self.bits |= bit;
        }
        self.bits ^= self.zero;
    }

    #[inline(always)]
    fn any(&self, bits: u32) -> bool {
        self.bits & bits != 0
    }
}

/// Finds both sockets and looks at them.
#[inline(always)]
fn look(ctx: &TcContext, question: &Question, seen: &mut Seen) {
    let proxys = find(ctx, &question.local, &question.remote);
    if proxys.is_null() {
        return;
    }
    let programs = find(ctx, &question.remote, &question.local);
    if programs.is_null() {
        release(proxys);
        return;
    }
    look_at(question, proxys, programs, seen);
    release(programs);
    release(proxys);
}

#[inline(always)]
fn look_at(question: &Question, proxys: *mut bpf_sock, programs: *mut bpf_sock, seen: &mut Seen) {
    // SAFETY: the helper takes any socket.
    let (proxy, program) =
        unsafe { (bpf_skc_to_tcp_sock(proxys.cast()) as u64, bpf_skc_to_tcp_sock(programs.cast()) as u64) };
    if proxy == 0 || program == 0 {
        return;
    }
    let established = |sk: *mut bpf_sock| field!(sk, state) == tcp::ESTABLISHED;
    let (proxy, program) = (Socket(proxy), Socket(program));
    let (Some(proxy_cookie), Some(program_cookie)) = (proxy.cookie(), program.cookie()) else { return };
    // A socket has none until somebody asks for it: many would be one, and one that nobody armed has accepted.
    if program_cookie == 0
        || proxy_cookie != question.cookie
        || !are_known(question, proxy_cookie, program_cookie)
        || !established(proxys)
        || !established(programs)
    {
        return;
    }
    seen.note(seen::PAIR, true);
    let Some(file) = program.file() else {
        // Nobody reads it yet, or any more.
        return seen.note(seen::BUSY, true);
    };
    note_facts(program, file, seen);
    let _ = PEERS.insert(proxy_cookie, maps::no_peer(), u64::from(BPF_NOEXIST));
    let _ = PEERS.insert(program_cookie, maps::no_peer(), u64::from(BPF_NOEXIST));
    let (Some(ours), Some(theirs)) = (PEERS.get_ptr_mut(proxy_cookie), PEERS.get_ptr_mut(program_cookie))
    else {
        let _ = PEERS.remove(proxy_cookie);
        return seen.note(seen::NO_ROOM, true);
    };
    // SAFETY: see `maps`.
    let (ours, theirs) = unsafe { (&mut *ours, &mut *theirs) };
    (ours.own, ours.cookie, ours.address) = (proxy_cookie, program_cookie, program.0);
    ours.flags |= end::PROXY;
    (theirs.own, theirs.cookie, theirs.address) = (program_cookie, proxy_cookie, proxy.0);
    // SAFETY: see `maps`.
    if matches!(unsafe { RECORDS.get(program_cookie) }, Some(record) if record.spliced != 0) {
        theirs.spliced = 1;
    }
    seen.note(seen::SPLICED, theirs.spliced != 0);
    if !seen.any(seen::NONBLOCKING) {
        // One that has not read yet may be about to say how it will: a server sets the mode after accept().
        if program.all_read().is_none() {
            return seen.note(seen::BUSY, true);
        }
        ours.blocking = 1;
    }
    seen.note(seen::BLOCKED, ours.blocking != 0);
    let wanted = question.ask == Ask::Enrol as u32;
    let watched = question.terms & term::EPOLL == 0 || seen.any(seen::EPOLL);
    if !wanted || seen.any(OBSTACLES) || !watched {
        return;
    }
    let Some((to_proxy, to_program)) = quiet_at(proxy, program) else { return seen.note(seen::BUSY, true) };
    (ours.gathered, theirs.gathered) = (to_proxy, to_program);
    if !enlist(&SOCKETS, proxy_cookie, proxys) {
        return seen.note(seen::REFUSED, true);
    }
    if !enlist(&SOCKETS, program_cookie, programs) {
        delist(proxy_cookie);
        return seen.note(seen::REFUSED, true);
    }
    theirs.flags |= end::REDIRECT;
    if question.terms & term::BOTH_WAYS != 0 {
        ours.flags |= end::REDIRECT;
    }
    seen.note(seen::ENROLLED, true);
}

/// Nothing is on its way to the program, and nothing waits at either end; which sequence numbers come next, to the proxy
/// and to the program. The proxy, which asks, neither sends nor reads meanwhile, so this stays true of the program's
/// end; what comes to the proxy's begins there.
#[inline(always)]
fn quiet_at(proxy: Socket, program: Socket) -> Option<(u32, u32)> {
    let to_program = proxy.acknowledged_until()?;
    (program.all_read_until(to_program) == Some(true)).then_some(())?;
    Some((proxy.all_read()?, to_program))
}

/// The two are each other's ends, by what their handshake left in `ORIGINS`: the program dialled the proxy, or the
/// proxy dialled the program.
#[inline(always)]
fn are_known(question: &Question, proxy: u64, program: u64) -> bool {
    let accepted = FlowKey { netns: question.netns, local: question.local, remote: question.remote };
    // SAFETY: see `maps`.
    if let Some(origin) = unsafe { ORIGINS.get(accepted) } {
        return origin.intent == Intent::Captured as u32 && origin.accepted == proxy && origin.id == program;
    }
    let dialled = FlowKey { netns: question.netns, local: question.remote, remote: question.local };
    // SAFETY: see `maps`.
    match unsafe { ORIGINS.get(dialled) } {
        Some(origin) => origin.intent == Intent::Proxy as u32 && origin.accepted == program,
        None => false,
    }
}

/// How the program uses its socket, at this moment.
#[inline(always)]
fn note_facts(program: Socket, file: File, seen: &mut Seen) {
    seen.note(seen::NONBLOCKING, file.is_nonblocking());
    seen.note(seen::EPOLL, file.is_watched());
    seen.note(seen::ULP, program.has_ulp() != Some(false));
    seen.note(seen::RCVLOWAT, program.waits_for_more() != Some(false));
    seen.note(seen::ZEROCOPY, program.is_zerocopy() != Some(false));
}

/// What both ends sent.
#[inline(always)]
fn tally(question: &Question, answer: &mut Answer, seen: &mut Seen, pairs: Pairs) {
    // SAFETY: see `maps`.
    let Some(ours) = (unsafe { pairs.peers.get(question.cookie) }) else { return };
    answer.to_program = ours.sent;
    answer.to_proxy = ours.received;
    seen.note(seen::BLOCKED, ours.blocking != 0);
    seen.note(seen::BROKEN, ours.broken != 0);
    let program = ours.cookie;
    let peer = Socket(ours.address);
    // One that is not accepted yet has no file either.
    let state = peer.state().map_or(tcp::CLOSE, u32::from);
    let unaccepted = matches!(state, tcp::ESTABLISHED | tcp::CLOSE_WAIT);
    let closed = peer.cookie() != Some(program) || (peer.file().is_none() && !unaccepted);
    seen.note(seen::GONE, closed);
    // SAFETY: see `maps`.
    if let Some(theirs) = unsafe { pairs.peers.get(program) } {
        answer.to_proxy = theirs.sent;
        seen.note(seen::SPLICED, theirs.spliced != 0);
    }
}

/// Removes the entry of the proxy's end, and the program's if it has closed: it goes as its socket closes, since it may be sending
/// just now, but one that closed before the entry was made has nobody to remove it.
#[inline(always)]
fn forget(question: &Question, seen: &Seen) {
    // SAFETY: see `maps`.
    let Some(&Peer { cookie: program, .. }) = (unsafe { PEERS.get(question.cookie) }) else { return };
    let _ = PEERS.remove(question.cookie);
    if seen.any(seen::GONE) {
        let _ = PEERS.remove(program);
    }
}

/// The socket at this end of a connection to that one, in the caller's network namespace.
#[inline(always)]
pub fn find(ctx: &TcContext, at: &Endpoint, to: &Endpoint) -> *mut bpf_sock {
    // The tuple is that of a packet to the socket: its source is the other end.
    // SAFETY: plain data.
    let mut tuple: bpf_sock_tuple = unsafe { zeroed() };
    let size = if at.ip.is_v4() {
        tuple.__bindgen_anon_1.ipv4 = aya_ebpf::bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: to.ip.0[3],
            daddr: at.ip.0[3],
            sport: to.port.to_be(),
            dport: at.port.to_be(),
        };
        12
    } else {
        tuple.__bindgen_anon_1.ipv6 = aya_ebpf::bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: to.ip.0,
            daddr: at.ip.0,
            sport: to.port.to_be(),
            dport: at.port.to_be(),
        };
        36
    };
    // SAFETY: the helper takes the program's own context and reads `size` bytes of the tuple.
    unsafe {
        bpf_sk_lookup_tcp(ctx.skb.skb.cast(), &raw mut tuple, size, u64::from(BPF_F_CURRENT_NETNS as u32), 0)
    }
}

#[inline(always)]
pub fn release(sk: *mut bpf_sock) {
    // SAFETY: a socket that `find` returned, released once.
    unsafe { bpf_sk_release(sk.cast()) };
}

#[inline(always)]
pub fn enlist(sockets: &'static SockHash<u64>, cookie: u64, sk: *mut bpf_sock) -> bool {
    // SAFETY: the value of a sockhash is a socket pointer here; the verifier checks both.
    unsafe {
        bpf_map_update_elem((&raw const *sockets).cast_mut().cast(), (&raw const cookie).cast(), sk.cast(), 0)
            == 0
    }
}

#[inline(always)]
fn delist(cookie: u64) {
    // SAFETY: the key is on the stack.
    unsafe { bpf_map_delete_elem((&raw const SOCKETS).cast_mut().cast(), (&raw const cookie).cast()) };
}
