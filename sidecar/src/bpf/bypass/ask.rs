//! How a question gets to the kernel half, and the answer back.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use sidecar_common::bypass::{Answer, ETHERNET, Question};

use crate::bpf::link;
use crate::net::sys;

/// Room for a question, and for its answer in its place.
const PACKET: usize = ETHERNET + larger(size_of::<Question>(), size_of::<Answer>());

/// Both are synchronous, and take some microseconds.
pub(super) enum Way {
    /// By running the program, which takes bpf(2): a container's default seccomp profile refuses it to who has no capability.
    Program(OwnedFd),
    /// By a packet to itself on the loopback interface, where a program sees it (Linux 6.6). One at a time: the answer waits at
    /// the socket.
    Packet(Mutex<UdpSocket>),
}

impl Way {
    /// By packets; whether anybody answers is not known yet.
    pub(super) fn packet() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        // Nothing ever comes, but for questions that nobody takes.
        socket.set_nonblocking(true)?;
        Ok(Self::Packet(Mutex::new(socket)))
    }

    pub(super) fn ask(&self, question: &Question) -> io::Result<Answer> {
        match self {
            Self::Program(program) => run(program, question),
            Self::Packet(socket) => send(&socket.lock().unwrap_or_else(PoisonError::into_inner), question),
        }
    }
}

fn run(program: &OwnedFd, question: &Question) -> io::Result<Answer> {
    let mut packet = [0u8; PACKET];
    packet[ETHERNET..][..size_of::<Question>()].copy_from_slice(bytes_of(question));
    link::run(program.as_fd(), &mut packet)?;
    // SAFETY: the packet has room for an answer there, any bit pattern of which is valid; the read allows for any alignment.
    Ok(unsafe { packet.as_ptr().add(ETHERNET).cast::<Answer>().read_unaligned() })
}

/// sendto() tells nothing of the packet's fate.
fn send(socket: &UdpSocket, question: &Question) -> io::Result<Answer> {
    let _ = socket.send(bytes_of(question));
    sys::answer(socket)
}

fn bytes_of(question: &Question) -> &[u8] {
    // SAFETY: plain data without padding, see its layout assertion.
    unsafe { std::slice::from_raw_parts((&raw const *question).cast(), size_of::<Question>()) }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
