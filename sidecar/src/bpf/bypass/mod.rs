//! The bypass in the kernel: loading its programs, asking about connections, enrolling them.

mod pair;
pub mod proof;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{MapData, SockHash};
use aya::programs::{Program, ProgramError};
use sidecar_common::bypass::{Answer, Ask, ETHERNET, Question, seen};
use sidecar_common::flow::NetnsCookie;

use super::{BpfError, Kernel, link, tracepoint};

/// enum `bpf_attach_type` (include/uapi/linux/bpf.h).
const BPF_SK_SKB_STREAM_VERDICT: u32 = 5;
const BPF_SK_MSG_VERDICT: u32 = 7;

/// Asks the kernel half about pairs of sockets. What it enrolled stays so when it is gone.
pub struct Bypass {
    enrol: OwnedFd,
    netns: NetnsCookie,
    /// Keeps the programs attached to the map; a socket that is enrolled keeps its own hold on them, and they on the map.
    _sockets: SockHash<MapData, u64>,
    /// Sees splice(2).
    _tracepoint: OwnedFd,
}

/// Room for a question, and for its answer in its place.
const PACKET: usize = ETHERNET
    + if size_of::<Question>() > size_of::<Answer>() { size_of::<Question>() } else { size_of::<Answer>() };

/// A hop between the proxy and a program, by the proxy's socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The cookie of the proxy's socket.
    pub cookie: u64,
    /// Its own address.
    pub local: SocketAddr,
    /// The program's.
    pub remote: SocketAddr,
}

impl Kernel {
    /// Loads and attaches the bypass's programs. To be called once.
    pub fn bypass(&mut self, netns: NetnsCookie) -> Result<Bypass, BpfError> {
        if let Some(reason) = &self.no_bypass {
            return Err(BpfError::Bypass { reason: reason.clone() });
        }
        let tracepoint = self.at_system_call("sidecar_splice", "sys_enter_splice")?;
        let message = self.loaded("sidecar_bypass")?;
        let gather = self.loaded("sidecar_gather")?;
        let enrol = self.loaded("sidecar_enrol")?;
        let sockets: SockHash<_, u64> = super::maps::taken(&mut self.ebpf, "SOCKETS")?;
        for (program, kind) in [(&message, BPF_SK_MSG_VERDICT), (&gather, BPF_SK_SKB_STREAM_VERDICT)] {
            link::attach_to_map(program.as_fd(), sockets.fd().as_fd(), kind)
                .map_err(|error| BpfError::Bypass { reason: format!("attach to SOCKETS: {error}") })?;
        }
        let netns = if self.features.netns_cookie { netns } else { 0 };
        Ok(Bypass { enrol, netns, _sockets: sockets, _tracepoint: tracepoint })
    }

    fn at_system_call(&mut self, name: &'static str, event: &str) -> Result<OwnedFd, BpfError> {
        let program = self.loaded(name)?;
        tracepoint::attach(program.as_fd(), "syscalls", event)
            .map_err(|error| BpfError::Bypass { reason: format!("attach {name} to {event}: {error}") })
    }

    fn loaded(&mut self, name: &'static str) -> Result<OwnedFd, BpfError> {
        let failed = |error: ProgramError| BpfError::load(&format!("load {name}"), &error);
        let program = self.ebpf.program_mut(name);
        let program =
            program.ok_or_else(|| BpfError::Load { reason: format!("{name} is not in the object") })?;
        match program {
            Program::SkMsg(program) => program.load(),
            Program::SkSkb(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::TracePoint(program) => program.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        }
        .map_err(failed)?;
        let fd = program.fd().and_then(|fd| Ok(fd.as_fd().try_clone_to_owned()?));
        fd.map_err(failed)
    }
}

impl Bypass {
    /// Asks about a hop; takes some microseconds. `terms`: bits of [`sidecar_common::bypass::term`].
    pub fn ask(&self, ask: Ask, hop: Hop, terms: u32) -> io::Result<Answer> {
        let question = Question {
            netns: self.netns,
            cookie: hop.cookie,
            local: hop.local.into(),
            remote: hop.remote.into(),
            ask: ask as u32,
            terms,
        };
        let mut packet = [0u8; PACKET];
        // SAFETY: plain data, written within the packet; the write allows for any alignment.
        unsafe { packet.as_mut_ptr().add(ETHERNET).cast::<Question>().write_unaligned(question) };
        link::run(self.enrol.as_fd(), &mut packet)?;
        // SAFETY: as above; any bit pattern is valid.
        Ok(unsafe { packet.as_ptr().add(ETHERNET).cast::<Answer>().read_unaligned() })
    }
}

/// What was seen of a program's socket, for people.
pub fn in_words(bits: u32) -> String {
    const OBSTACLES: [(u32, &str); 7] = [
        (seen::SPLICED, "its program splices"),
        (seen::BLOCKED, "its program reads in blocking mode"),
        (seen::ULP, "an upper-layer protocol sits on it"),
        (seen::RCVLOWAT, "its program set SO_RCVLOWAT"),
        (seen::ZEROCOPY, "its program writes with SO_ZEROCOPY"),
        (seen::NO_ROOM, "a map is full"),
        (seen::REFUSED, "the kernel refuses the socket"),
    ];
    if bits & seen::PAIR == 0 {
        return "the other end is not an armed program of this machine".to_owned();
    }
    let named: Vec<_> = OBSTACLES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, text)| *text).collect();
    if named.is_empty() { "nothing speaks against it".to_owned() } else { named.join(", ") }
}
