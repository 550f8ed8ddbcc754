//! The self-test of the bypass: what a program may do with an enrolled socket, tried on this kernel. Kernels differ:
//! some do not count what is redirected (no bound), some answer FIONREAD wrongly, some lack a program type.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;

use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use sidecar_common::bypass::{Ask, Counts, Fallback, seen, term};
use sidecar_common::flow::NetnsCookie;
use socket2::SockRef;

use super::Bypass;
use super::pair::{Pair, Pairs, Stamp, read_end, read_until, readable, write_some};
use crate::bpf::{BpfError, Kernel};
use crate::net::sys;

/// One behaviour, and how it went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trial {
    /// Always the same for the same thing.
    pub name: &'static str,
    /// What was seen, or what went wrong.
    pub outcome: Result<String, String>,
}

type Try = fn(&Pairs<'_>) -> Result<String, String>;

/// What is tried, in order.
const TRIALS: [(&str, Try); 11] = [
    ("ordering", ordering),
    ("end of file", end_of_file),
    ("FIONREAD", fionread),
    ("one queue", one_queue),
    ("epoll level", epoll_level),
    ("epoll edge", epoll_edge),
    ("blocking read", blocking_read),
    ("MSG_PEEK", peek),
    ("splice", splicing),
    ("slow reader", slow_reader),
    ("close races", close_races),
];
/// Larger than a receive buffer, so that the path switches.
const BURST: usize = 256 * 1024;
/// No receive buffer and TCP window of a socket that nobody tuned is larger (net.ipv4.tcp_rmem, tcp_wmem).
const UNBOUNDED: u64 = 64 * 1024 * 1024;
const RACES: usize = 10;

/// The bypass of a kernel, and how its trials went.
pub struct Proven {
    /// Ready to be asked.
    pub bypass: Bypass,
    /// In order.
    pub trials: Vec<Trial>,
}

/// Loads the bypass and tries everything over loopback, in a fraction of a second. This process's
/// sockets must be armed as the proxy's, by its cgroup, or by `mark` (else 0).
pub fn prove(kernel: &mut Kernel, netns: NetnsCookie, mark: u32) -> Result<Proven, BpfError> {
    let bypass = kernel.bypass(netns)?;
    let pairs = Pairs::new(&bypass, mark).map_err(|error| format!("listen on loopback: {error}"));
    let one = |(name, attempt): (&'static str, Try)| Trial {
        name,
        outcome: pairs.as_ref().map_err(Clone::clone).and_then(attempt),
    };
    let trials = TRIALS.map(one).into();
    kernel.forget_redirected()?;
    Ok(Proven { bypass, trials })
}

impl Proven {
    /// Why this kernel cannot be trusted with it; `None`: it can.
    pub fn doubt(&self) -> Option<String> {
        let failed =
            |trial: &Trial| trial.outcome.as_ref().err().map(|reason| format!("{}: {reason}", trial.name));
        let doubts: Vec<_> = self.trials.iter().filter_map(failed).collect();
        (!doubts.is_empty()).then(|| doubts.join("; "))
    }
}

/// Bursts that the reader takes late, so that the path switches back and forth.
fn ordering(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.enrolled()?;
    let (mut sent, mut received) = (Stamp::default(), Stamp::default());
    for length in [64, BURST, BURST, 64, BURST, 64] {
        // Only then does the path return.
        acknowledged(&pair)?;
        let end = sent.position() + length as u64;
        while sent.position() < end {
            let step = length.min(16 * 1024);
            if write_some(&pair.proxy, &mut sent, step).map_err(|error| error.to_string())? == 0 {
                break;
            }
        }
        let end = sent.position();
        read_until(&pair.program, &mut received, end)?;
    }
    let counts = pairs.ask(Ask::Count, &pair, 0)?.to_program;
    let by_tcp: u32 = counts.fallbacks.iter().sum();
    if counts.messages == 0 || by_tcp == 0 {
        return Err(format!("{} messages were redirected and {by_tcp} went by TCP", counts.messages));
    }
    // And the other way.
    let (mut sent, mut received) = (Stamp::default(), Stamp::default());
    write_some(&pair.program, &mut sent, 1000).map_err(|error| error.to_string())?;
    read_until(&pair.proxy, &mut received, 1000)?;
    Ok(format!("kept: {} messages redirected, {by_tcp} by TCP between them", counts.messages))
}

fn end_of_file(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.enrolled()?;
    send(&pair, 1000)?;
    pair.proxy.shutdown(Shutdown::Write).map_err(|error| error.to_string())?;
    read_until(&pair.program, &mut Stamp::default(), 1000)?;
    read_end(&pair.program)?;
    Ok("comes after the last byte".to_owned())
}

fn fionread(pairs: &Pairs<'_>) -> Result<String, String> {
    for (terms, way) in [(term::BOTH_WAYS, "redirected"), (0, "by TCP")] {
        let pair = pairs.enrolled_on(terms)?;
        send(&pair, 100)?;
        readable(&pair.program)?;
        let waiting = sys::unread(&pair.program).map_err(|error| error.to_string())?;
        if waiting != 100 {
            return Err(format!("answers {waiting} where 100 bytes wait that came {way}"));
        }
    }
    Ok("counts what waits, whichever way it came".to_owned())
}

/// A read that does not fill its buffer has taken all there was: programs with edge-triggered epoll count on it.
fn one_queue(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.enrolled()?;
    let mut sent = Stamp::default();
    let by_tcp = |counts: Counts| counts.fallbacks[Fallback::Full as usize] > 0;
    while !by_tcp(pairs.ask(Ask::Count, &pair, 0)?.to_program) {
        if write_some(&pair.proxy, &mut sent, 8 * 1024).map_err(|error| error.to_string())? == 0 {
            return Err("the receiver's buffer has no bound".to_owned());
        }
    }
    acknowledged(&pair)?;
    let mut buffer = vec![0; 4 * BURST];
    let read = (&pair.program).read(&mut buffer).map_err(|error| error.to_string())?;
    if read as u64 != sent.position() {
        return Err(format!("a read takes {read} of {} bytes that wait", sent.position()));
    }
    Stamp::default().expect(&buffer[..read])?;
    Ok("a read takes what came either way".to_owned())
}

fn epoll_level(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.enrolled()?;
    let epoll = watching(&pair, EpollFlags::EPOLLIN)?;
    expect_event(&epoll, false)?;
    send(&pair, 2)?;
    expect_event(&epoll, true)?;
    (&pair.program).read_exact(&mut [0; 1]).map_err(|error| error.to_string())?;
    expect_event(&epoll, true)?;
    (&pair.program).read_exact(&mut [0; 1]).map_err(|error| error.to_string())?;
    expect_event(&epoll, false)?;
    Ok("readable while bytes wait".to_owned())
}

fn epoll_edge(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.enrolled()?;
    let epoll = watching(&pair, EpollFlags::EPOLLIN | EpollFlags::EPOLLET)?;
    for _ in 0..2 {
        send(&pair, 1)?;
        expect_event(&epoll, true)?;
        expect_event(&epoll, false)?;
        (&pair.program).read_exact(&mut [0; 1]).map_err(|error| error.to_string())?;
    }
    Ok("told once for each arrival".to_owned())
}

/// A blocking read of an enrolled socket may return EAGAIN when it is woken without data (tcp_bpf_recvmsg), so that none
/// may ever be enrolled.
fn blocking_read(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.connected().map_err(|error| error.to_string())?;
    pair.program.set_nonblocking(false).map_err(|error| error.to_string())?;
    refused(pairs, &pair, seen::BLOCKED)?;
    // And one that turns blocking afterwards gets nothing more that way.
    let pair = pairs.enrolled()?;
    pair.program.set_nonblocking(false).map_err(|error| error.to_string())?;
    by_tcp_for_its_reader(pairs, &pair)?;
    Ok("programs that read so are never enrolled".to_owned())
}

fn peek(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.enrolled()?;
    send(&pair, 100)?;
    readable(&pair.program)?;
    let mut shown = [0; 100];
    let length = pair.program.peek(&mut shown).map_err(|error| error.to_string())?;
    Stamp::default().expect(&shown[..length])?;
    read_until(&pair.program, &mut Stamp::default(), 100)?;
    Ok("shows what a read then takes".to_owned())
}

/// splice(2) takes from TCP's queue alone.
fn splicing(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.connected().map_err(|error| error.to_string())?;
    pairs.ask(Ask::Look, &pair, 0)?;
    splice_nothing(&pair)?;
    refused(pairs, &pair, seen::SPLICED)?;
    let pair = pairs.enrolled()?;
    splice_nothing(&pair)?;
    by_tcp_for_its_reader(pairs, &pair)?;
    Ok("programs that read so are seen, and never enrolled".to_owned())
}

/// Without a bound, a reader that stops would let its sender fill the memory.
fn slow_reader(pairs: &Pairs<'_>) -> Result<String, String> {
    let pair = pairs.enrolled()?;
    let mut sent = Stamp::default();
    while write_some(&pair.proxy, &mut sent, 16 * 1024).map_err(|error| error.to_string())? > 0 {
        if sent.position() > UNBOUNDED {
            return Err(format!("a reader that stopped was sent {} bytes", sent.position()));
        }
    }
    let redirected = pairs.ask(Ask::Count, &pair, 0)?.to_program.bytes;
    let buffer = SockRef::from(&pair.program).recv_buffer_size().map_err(|error| error.to_string())?;
    if redirected > buffer as u64 {
        return Err(format!("{redirected} bytes were redirected into a buffer of {buffer}"));
    }
    read_until(&pair.program, &mut Stamp::default(), sent.position())?;
    Ok(format!("held after {} KiB, {} of them redirected", sent.position() / 1024, redirected / 1024))
}

fn close_races(pairs: &Pairs<'_>) -> Result<String, String> {
    for _ in 0..RACES {
        // The writer closes at once: all comes, then the end.
        let Pair { proxy, program, .. } = sent_on(pairs.enrolled()?, 5000)?;
        drop(proxy);
        read_until(&program, &mut Stamp::default(), 5000)?;
        read_end(&program)?;
        // The reader closes: the writer is told, as by TCP.
        let Pair { proxy, program, .. } = sent_on(pairs.enrolled()?, 5000)?;
        drop(program);
        told(&proxy)?;
        // The reader has sent its own end before, so that its socket is done with TCP before all is read.
        let Pair { proxy, program, .. } = sent_on(pairs.enrolled()?, 5000)?;
        program.shutdown(Shutdown::Write).map_err(|error| error.to_string())?;
        read_end(&proxy)?;
        drop(proxy);
        read_until(&program, &mut Stamp::default(), 5000)?;
        read_end(&program)?;
    }
    Ok("bytes before a close come, and writers to a closed reader are told".to_owned())
}

// === steps ===

fn send(pair: &Pair, length: usize) -> Result<(), String> {
    (&pair.proxy).write_all(&Stamp::default().next(length)).map_err(|error| format!("write: {error}"))
}

fn sent_on(pair: Pair, length: usize) -> Result<Pair, String> {
    send(&pair, length)?;
    Ok(pair)
}

/// Waits until TCP has nothing on its way from the proxy.
#[expect(clippy::disallowed_methods, reason = "nothing tells when an acknowledgement comes")]
fn acknowledged(pair: &Pair) -> Result<(), String> {
    for _ in 0..1000 {
        if sys::unacknowledged(&pair.proxy) == 0 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    Err("what was read is not acknowledged".to_owned())
}

/// Enrolling is refused for this reason.
fn refused(pairs: &Pairs<'_>, pair: &Pair, reason: u32) -> Result<(), String> {
    let answer = pairs.ask(Ask::Enrol, pair, term::BOTH_WAYS)?;
    if answer.seen & seen::ENROLLED != 0 || answer.seen & reason == 0 {
        return Err(format!("not kept out: {}", super::in_words(answer.seen)));
    }
    Ok(())
}

/// What is sent now goes by TCP, since its reader would not see it otherwise; and it comes.
fn by_tcp_for_its_reader(pairs: &Pairs<'_>, pair: &Pair) -> Result<(), String> {
    send(pair, 10)?;
    let counts = pairs.ask(Ask::Count, pair, 0)?.to_program;
    if counts.messages != 0 || counts.fallbacks[Fallback::Reader as usize] == 0 {
        return Err("bytes were redirected all the same".to_owned());
    }
    readable(&pair.program)?;
    read_until(&pair.program, &mut Stamp::default(), 10)
}

/// A writer to a reader that closed gets an error within a few writes.
#[expect(clippy::disallowed_methods, reason = "the reset is on its way")]
fn told(mut proxy: &std::net::TcpStream) -> Result<(), String> {
    for _ in 0..1000 {
        match proxy.write(&[0; 100]) {
            Ok(_) => std::thread::sleep(std::time::Duration::from_micros(50)),
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            Err(error) => return Err(format!("write to a closed reader: {error}")),
        }
    }
    Err("writes to a closed reader go on succeeding".to_owned())
}

fn splice_nothing(pair: &Pair) -> Result<(), String> {
    let (_out, into) = nix::unistd::pipe().map_err(|errno| errno.to_string())?;
    let into = File::from(into);
    match splice(&pair.program, None, &into, None, 10, SpliceFFlags::SPLICE_F_NONBLOCK) {
        Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
        Err(errno) => Err(format!("splice: {errno}")),
    }
}

fn watching(pair: &Pair, flags: EpollFlags) -> Result<Epoll, String> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| errno.to_string())?;
    epoll.add(pair.program.as_fd(), EpollEvent::new(flags, 0)).map_err(|errno| errno.to_string())?;
    Ok(epoll)
}

fn expect_event(epoll: &Epoll, expected: bool) -> Result<(), String> {
    let mut events = [EpollEvent::empty()];
    // What is to come may be on its way; what is not to come would be there already.
    let timeout = if expected { EpollTimeout::from(500u16) } else { EpollTimeout::ZERO };
    let come = epoll.wait(&mut events, timeout).map_err(|errno| errno.to_string())?;
    if (come > 0) == expected {
        Ok(())
    } else if expected {
        Err("no event comes for bytes that wait".to_owned())
    } else {
        Err("an event comes where nothing is new".to_owned())
    }
}
