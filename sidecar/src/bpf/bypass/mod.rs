//! The bypass in the kernel: loading its programs, asking about connections, enrolling them.

mod ask;
mod pair;
pub mod proof;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::OnceLock;

use aya::maps::{MapData, SockHash};
use aya::programs::{Program, ProgramError};
use sidecar_common::bypass::{Answer, Ask, Question, seen};
use sidecar_common::flow::NetnsCookie;

use self::ask::Way;
use super::{BpfError, Kernel, link, tracepoint};

/// enum `bpf_attach_type` (include/uapi/linux/bpf.h).
const BPF_SK_SKB_STREAM_VERDICT: u32 = 5;
const BPF_SK_MSG_VERDICT: u32 = 7;
const BPF_TCX_EGRESS: u32 = 47;

/// Asks the kernel half about pairs of sockets. What it enrolled stays so when it is gone.
pub struct Bypass {
    way: Way,
    netns: NetnsCookie,
    /// The arming that answered first.
    arming: OnceLock<u32>,
    /// Where the rest of it is not kept by pins.
    parts: Option<Parts>,
}

/// What works while it is open.
struct Parts {
    /// Keeps the programs attached to the map; a socket that is enrolled keeps its own hold on them, and they on the map.
    sockets: SockHash<MapData, u64>,
    /// Sees splice(2).
    tracepoint: OwnedFd,
}

/// In a directory of pins: the program to ask.
const ENROL_PIN: &str = "sidecar_enrol";
/// The map of sockets: without a file descriptor or pin it would lose its programs (`sock_map_release_progs`).
const SOCKETS_PIN: &str = "SOCKETS";
/// The link of the program that sees splice(2).
const TRACEPOINT_PIN: &str = "sidecar_splice";

/// The link of the program that answers what is asked by packets.
const ASK_PIN: &str = "sidecar_ask";
/// The loopback interface, which is a network namespace's first (`LOOPBACK_IFINDEX`, include/net/flow.h).
const LOOPBACK: u32 = 1;

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
        let enrol = self.loaded("sidecar_enrol")?;
        let sockets: SockHash<_, u64> = super::maps::taken(&mut self.ebpf, "SOCKETS")?;
        self.attach_bypass(sockets.fd().as_fd(), "sidecar_bypass", "sidecar_gather")?;
        let netns = if self.features.netns_cookie { netns } else { 0 };
        let parts = Some(Parts { sockets, tracepoint });
        Ok(Bypass { way: Way::Program(enrol), netns, arming: OnceLock::new(), parts })
    }

    /// Loads the two programs of a map of sockets, and attaches them to it.
    pub(super) fn attach_bypass(
        &mut self,
        sockets: BorrowedFd<'_>,
        message: &'static str,
        gather: &'static str,
    ) -> Result<(), BpfError> {
        for (name, kind) in [(message, BPF_SK_MSG_VERDICT), (gather, BPF_SK_SKB_STREAM_VERDICT)] {
            let program = self.loaded(name)?;
            link::attach_to_map(program.as_fd(), sockets, kind).map_err(|error| BpfError::Bypass {
                reason: format!("attach {name} to its map of sockets: {error}"),
            })?;
        }
        Ok(())
    }

    /// Lets the proxy ask by packets in this thread's network namespace, from Linux 6.6 (e420bed02507) on, while the pin is
    /// there.
    pub fn answer_packets(&mut self, pins: &Path) -> Result<(), BpfError> {
        let refused = |error: io::Error| BpfError::Bypass {
            reason: format!("attach to the loopback interface: {error}"),
        };
        // Before, there is no such hook, and verifying the program would be for nothing.
        link::has_hook_at_interface(LOOPBACK, BPF_TCX_EGRESS).map_err(refused)?;
        let program = self.loaded("sidecar_ask")?;
        let link = link::create_at_interface(program.as_fd(), LOOPBACK, BPF_TCX_EGRESS).map_err(refused)?;
        let path = pins.join(ASK_PIN);
        link::pin(link.as_fd(), &path).map_err(|cause| BpfError::File {
            operation: "pin a link as",
            path,
            cause,
        })
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
    /// Opens what [`Self::pin`] pinned, for sockets of this network namespace. Takes no capability, but a kernel that
    /// lets everybody run a program that they may open (5.19, c8644cd0efe7), or one that answers packets.
    pub fn open(pins: &Path, netns: NetnsCookie) -> io::Result<Self> {
        Self::program(pins)
            .and_then(|enrol| Self::by(Way::Program(enrol), netns))
            .or_else(|error| by_packets(netns, &error))
    }

    /// The program to ask, which [`Self::pin`] pinned, for whoever is to be given it.
    pub fn program(pins: &Path) -> io::Result<OwnedFd> {
        link::open(&pins.join(ENROL_PIN))
    }

    /// The bypass by its program, as another process has opened it; the rest is kept by pins. Takes no capability either.
    pub fn handed(enrol: OwnedFd, netns: NetnsCookie) -> io::Result<Self> {
        Self::by(Way::Program(enrol), netns).or_else(|error| by_packets(netns, &error))
    }

    fn by(way: Way, netns: NetnsCookie) -> io::Result<Self> {
        let bypass = Self { way, netns, arming: OnceLock::new(), parts: None };
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        bypass.ask(Ask::Count, Hop { cookie: 0, local: nowhere, remote: nowhere }, 0)?;
        Ok(bypass)
    }

    /// Keeps it when this process ends; for a proxy that runs as `user` to open, or to be handed over.
    pub fn pin(&self, pins: &Path, user: Option<u32>) -> Result<(), BpfError> {
        let enrol = pins.join(ENROL_PIN);
        let failed = |operation: &'static str, path: &Path| {
            let path = path.to_owned();
            move |cause: io::Error| BpfError::File { operation, path, cause }
        };
        // What was opened is pinned already.
        let (Way::Program(program), Some(parts)) = (&self.way, &self.parts) else { return Ok(()) };
        let tracepoint = pins.join(TRACEPOINT_PIN);
        // EINVAL: an event, which goes with this process (before 5.15).
        link::pin(parts.tracepoint.as_fd(), &tracepoint).map_err(failed("pin a link as", &tracepoint))?;
        let sockets = pins.join(SOCKETS_PIN);
        link::pin(parts.sockets.fd().as_fd(), &sockets).map_err(failed("pin a map as", &sockets))?;
        link::pin(program.as_fd(), &enrol).map_err(failed("pin a program as", &enrol))?;
        match user {
            Some(user) => chown(&enrol, Some(user), None).map_err(failed("give to the proxy's user", &enrol)),
            None => Ok(()),
        }
    }

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
        let answer = self.way.ask(&question)?;
        // A packet reaches the arming that is there now, which knows nothing of what another has enrolled.
        if *self.arming.get_or_init(|| answer.arming) != answer.arming {
            return Err(io::Error::other("the Pod was armed anew since"));
        }
        Ok(answer)
    }
}

/// Where its program cannot be run, for this reason.
fn by_packets(netns: NetnsCookie, error: &io::Error) -> io::Result<Bypass> {
    let asked = Way::packet().and_then(|way| Bypass::by(way, netns));
    asked.map_err(|packets| {
        io::Error::new(error.kind(), format!("{error}; nor by packets (Linux 6.6): {packets}"))
    })
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
    if bits & seen::AMBIGUOUS != 0 {
        return "another socket of this machine has the same addresses".to_owned();
    }
    if bits & seen::ALONE != 0 {
        return "its kernel half shares nothing with other instances".to_owned();
    }
    if bits & seen::PAIR == 0 {
        return "the other end is not an armed program of this machine".to_owned();
    }
    let named: Vec<_> = OBSTACLES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, text)| *text).collect();
    if named.is_empty() { "nothing speaks against it".to_owned() } else { named.join(", ") }
}
