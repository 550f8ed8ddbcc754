//! The sending direction of an end: one system call a step.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::uio::writev;

use crate::endpoint::{Endpoint, Failure, Outcome};
use crate::fault::{Fault, Kind};
use crate::plan::{End, Moment, Step, Writes};
use crate::random::Random;

/// What a write offers at most, and so what waits in memory for each sender.
const LARGE: u64 = 1 << 20;

/// Sends what the plan says.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    end: &'a Endpoint,
    steps: std::slice::Iter<'a, Step>,
    step: Option<&'a Step>,
    random: Random,
    fault: Option<Fault>,
    /// The write that was begun, and how much of it the socket took.
    offered: Offer,
    taken: usize,
    finished: bool,
}

#[derive(Debug)]
enum Offer {
    Bytes(Vec<u8>),
    /// A file of its own for each offer: its pages are read when the receiver copies them.
    File(File, usize),
}

impl<'a> Sender<'a> {
    pub(crate) fn new(end: &'a Endpoint, fault: Option<Fault>) -> Self {
        let mut steps = end.side().steps.iter();
        let step = steps.next();
        let random = Random::new(end.seed, u64::MAX ^ u64::from(end.plan.connection));
        Self { end, steps, step, random, fault, offered: Offer::Bytes(Vec::new()), taken: 0, finished: false }
    }

    pub(crate) fn step(&mut self) -> Result<Outcome, Failure> {
        let sent = self.end.sent();
        if self.finished || self.end.is_over() {
            return Ok(Outcome::Ended);
        }
        if self.end.is_to_break() {
            self.end.break_off();
            return Ok(Outcome::Ended);
        }
        while let Some(step) = self.step.filter(|step| step.until == sent) {
            // A step that sends nothing still waits.
            if self.end.received() < step.after {
                return Ok(Outcome::Awaiting(step.after));
            }
            self.step = self.steps.next();
        }
        let Some(step) = self.step else { return self.finish() };
        if self.end.received() < step.after {
            return Ok(Outcome::Awaiting(step.after));
        }
        if self.fault.is_some_and(|fault| fault.kind == Kind::Stall && sent >= fault.at) {
            return Ok(Outcome::Awaiting(u64::MAX));
        }
        if self.taken == self.offered.len() {
            let most = (step.until - sent).min(self.end.until_break(Moment::Sent, sent));
            self.offered = self.offer(sent, most).map_err(|error| format!("cannot prepare: {error}"))?;
            self.taken = 0;
        }
        match self.write() {
            Ok(0) => Err(format!("a write of {} bytes took none", self.offered.len() - self.taken)),
            Ok(bytes) => {
                self.taken += bytes;
                self.end.has_sent(bytes);
                Ok(Outcome::Moved)
            }
            Err(Errno::EAGAIN) => Ok(Outcome::Blocked),
            Err(Errno::EINTR) => Ok(Outcome::Moved),
            Err(Errno::EPIPE | Errno::ECONNRESET) if self.end.plan.breaks() => Ok(Outcome::Ended),
            Err(error) => Err(format!("sending at offset {sent}: {error}")),
        }
    }

    fn finish(&mut self) -> Result<Outcome, Failure> {
        self.finished = true;
        if self.end.side().end == End::HalfClose {
            match self.end.socket.shutdown(Shutdown::Write) {
                Err(error) if !self.end.plan.breaks() => return Err(format!("shutdown(SHUT_WR): {error}")),
                _ => (),
            }
        }
        Ok(Outcome::Ended)
    }

    fn offer(&mut self, offset: u64, most: u64) -> std::io::Result<Offer> {
        let range = match self.end.side().writes {
            Writes::Tiny => 1..=4,
            Writes::Small => 1..=1024,
            Writes::Medium => 512..=(64 << 10),
            Writes::Large => (64 << 10)..=LARGE,
            Writes::Vectored | Writes::Sendfile => 128..=(256 << 10),
        };
        let length = self.random.of_any_size(range).min(most);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        match &self.fault {
            None => self.end.outgoing().fill(offset, &mut bytes),
            Some(fault) => fault.fill(self.end.outgoing(), offset, &mut bytes),
        }
        if self.end.side().writes != Writes::Sendfile {
            return Ok(Offer::Bytes(bytes));
        }
        let mut file = File::from(memfd_create(c"chunk", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&bytes)?;
        Ok(Offer::File(file, bytes.len()))
    }

    fn write(&mut self) -> nix::Result<usize> {
        let socket = &self.end.socket;
        match &self.offered {
            Offer::Bytes(bytes) if self.end.side().writes == Writes::Vectored => {
                let bytes = &bytes[self.taken..];
                let parts: Vec<_> = bytes.chunks(bytes.len() / 5 + 1).map(IoSlice::new).collect();
                writev(socket, &parts)
            }
            Offer::Bytes(bytes) => send(socket.as_raw_fd(), &bytes[self.taken..], MsgFlags::MSG_NOSIGNAL),
            Offer::File(file, length) => {
                let mut from = i64::try_from(self.taken).unwrap_or(i64::MAX);
                sendfile(socket, file, Some(&mut from), length - self.taken)
            }
        }
    }
}

impl Offer {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(_, length) => *length,
        }
    }
}
