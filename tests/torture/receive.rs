//! The receiving direction of an end: one read a step, and every byte is looked at.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::SetStruct;
use nix::sys::socket::{MsgFlags, recv, setsockopt};
use nix::unistd::pipe2;
use nix::{libc, setsockopt_impl};

use crate::endpoint::{Endpoint, Failure, Outcome};
use crate::plan::{End, Moment, Reads};
use crate::random::Random;
use crate::stamp::{ENOUGH, Place, Stream, within_word};

setsockopt_impl!(LowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, i32, SetStruct<i32>);

/// `SO_RCVLOWAT`, which nix does not have.
#[derive(Clone, Copy, Debug)]
struct LowWater;

/// The largest read; also what a pipe holds (pipe(7)).
const LARGEST: u64 = 64 << 10;

/// How long a wrong byte waits for those after it, which tell more.
const PATIENCE_MS: u16 = 500;

/// Receives and verifies.
#[derive(Debug)]
pub(crate) struct Receiver<'a> {
    end: &'a Endpoint,
    random: Random,
    pauses: std::slice::Iter<'a, (u64, Duration)>,
    pause: Option<&'a (u64, Duration)>,
    until: Option<Instant>,
    /// Whether the socket is in blocking mode now.
    pub blocking: bool,
    /// How many reads have brought bytes.
    pub reads: u64,
    buffer: Vec<u8>,
    pipe: Option<(File, OwnedFd)>,
}

/// Why a read brought nothing.
#[derive(Debug)]
enum Unread {
    Error(Errno),
    Wrong(&'static str),
}

impl From<Errno> for Unread {
    fn from(error: Errno) -> Self {
        Self::Error(error)
    }
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(end: &'a Endpoint, blocking: bool) -> Self {
        let mut pauses = end.side().pauses.iter();
        Self {
            end,
            random: Random::new(end.seed, 1 << 40 | u64::from(end.plan.connection)),
            pause: pauses.next(),
            pauses,
            until: None,
            blocking,
            reads: 0,
            buffer: vec![0; usize::try_from(LARGEST).unwrap_or(0)],
            pipe: None,
        }
    }

    pub(crate) fn step(&mut self) -> Result<Outcome, Failure> {
        let received = self.end.received();
        if self.end.is_over() {
            return Ok(Outcome::Ended);
        }
        if self.end.is_to_break() {
            self.end.break_off();
            return Ok(Outcome::Ended);
        }
        if let Some(until) = self.until.take_if(|until| *until > Instant::now()) {
            self.until = Some(until);
            return Ok(Outcome::Paused(until));
        }
        if let Some((_, length)) = self.pause.filter(|(at, _)| *at <= received) {
            self.pause = self.pauses.next();
            let until = Instant::now() + *length;
            self.until = Some(until);
            self.end.moved();
            return Ok(Outcome::Paused(until));
        }
        if self.end.side().end == End::Close && received == self.end.side().incoming {
            return Ok(Outcome::Ended);
        }
        match self.read(received) {
            Ok(0) if self.end.is_over() => Ok(Outcome::Ended),
            Ok(0) => self.at_end(received),
            Ok(length) => self.verify(received, length),
            Err(Unread::Error(Errno::EAGAIN)) if self.blocking => {
                Err(format!("EAGAIN from a blocking socket at offset {received}"))
            }
            Err(Unread::Error(Errno::EAGAIN)) => Ok(Outcome::Blocked),
            Err(Unread::Error(Errno::EINTR)) => Ok(Outcome::Moved),
            Err(Unread::Error(Errno::ECONNRESET | Errno::EPIPE)) if self.end.plan.breaks() => {
                Ok(self.broken())
            }
            Err(Unread::Error(error)) => Err(format!("receiving at offset {received}: {error}")),
            Err(Unread::Wrong(what)) => Err(format!("at offset {received} {what}")),
        }
    }

    /// One read, into the buffer.
    fn read(&mut self, received: u64) -> Result<usize, Unread> {
        let most = if self.random.percent(5) { 1..=16 } else { 256..=LARGEST };
        let most = self.random.of_any_size(most).min(self.end.until_break(Moment::Received, received));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (socket, none) = (self.end.socket.as_raw_fd(), MsgFlags::empty());
        match self.end.side().reads {
            Reads::Peek => {
                let peeked = recv(socket, &mut self.buffer[..most], MsgFlags::MSG_PEEK)?;
                let seen = self.buffer[..peeked].to_vec();
                let read = recv(socket, &mut self.buffer[..peeked], none);
                // Another thread of a connection that breaks off may be in between.
                if self.end.plan.breaks() {
                    return Ok(read?);
                }
                match read {
                    Ok(length) if length == peeked && self.buffer[..peeked] == seen => Ok(length),
                    _ => Err(Unread::Wrong("a peek showed bytes that the read then did not find")),
                }
            }
            Reads::WaitAll if self.blocking => {
                let coming = self.end.side().wanted(received) - received;
                let most = most.min(usize::try_from(coming.max(1)).unwrap_or(usize::MAX));
                let length = recv(socket, &mut self.buffer[..most], MsgFlags::MSG_WAITALL)?;
                if (1..most).contains(&length) && !self.end.plan.breaks() {
                    return Err(Unread::Wrong("MSG_WAITALL came back with less than was asked for"));
                }
                Ok(length)
            }
            Reads::LowWaterAfter(reads) if self.reads >= reads => {
                // More would never come before this end has sent something itself. A blocking read takes what is there and
                // then waits for as much again, which may never come either: Linux does so on plain TCP.
                let coming = self.end.side().wanted(received) - received;
                let most_wake = if self.blocking { 1 } else { coming.clamp(1, 2048) };
                let wake = self.random.of_any_size(1..=most_wake);
                setsockopt(&self.end.socket, LowWater, &i32::try_from(wake).unwrap_or(1))?;
                Ok(recv(socket, &mut self.buffer[..most], none)?)
            }
            Reads::Splice => self.splice(most),
            Reads::SpliceAfter(reads) if self.reads >= reads => self.splice(most),
            _ => Ok(recv(socket, &mut self.buffer[..most], none)?),
        }
    }

    fn splice(&mut self, most: usize) -> Result<usize, Unread> {
        if self.pipe.is_none() {
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
            self.pipe = Some((File::from(reader), writer));
        }
        let Some((reader, writer)) = &mut self.pipe else { return Err(Errno::EMFILE.into()) };
        let flags = if self.blocking { SpliceFFlags::empty() } else { SpliceFFlags::SPLICE_F_NONBLOCK };
        let length = splice(&self.end.socket, None, writer.as_fd(), None, most, flags)?;
        reader.read_exact(&mut self.buffer[..length]).map_err(|_| Errno::EIO)?;
        Ok(length)
    }

    fn verify(&mut self, received: u64, length: usize) -> Result<Outcome, Failure> {
        let stream = self.end.incoming();
        if let Some(at) = stream.first_wrong(received, &self.buffer[..length]) {
            let wrong = received + at as u64;
            let mut bytes = self.buffer[at..length].to_vec();
            self.read_on(&mut bytes);
            return Err(diagnose(stream, wrong, &bytes));
        }
        if received + length as u64 > self.end.side().incoming {
            return Err(format!(
                "more bytes than were sent: {} past the end",
                received + length as u64 - self.end.side().incoming
            ));
        }
        self.reads += 1;
        self.end.has_received(length);
        Ok(Outcome::Moved)
    }

    /// The end of the stream, which must not come early.
    fn at_end(&self, received: u64) -> Result<Outcome, Failure> {
        let incoming = self.end.side().incoming;
        if received == incoming {
            return Ok(Outcome::Ended);
        }
        if self.end.plan.breaks() {
            return Ok(self.broken());
        }
        Err(format!(
            "the stream ended at offset {received} of {incoming}: the last {} bytes are lost",
            incoming - received
        ))
    }

    /// The other side broke off: whoever waits for more of its bytes waits in vain.
    fn broken(&self) -> Outcome {
        self.end.break_off();
        Outcome::Ended
    }

    /// Adds what comes after a wrong byte, as far as it comes soon.
    fn read_on(&self, bytes: &mut Vec<u8>) {
        while bytes.len() < ENOUGH {
            let mut more = [0; ENOUGH];
            let _ = poll(
                &mut [PollFd::new(self.end.socket.as_fd(), PollFlags::POLLIN)],
                PollTimeout::from(PATIENCE_MS),
            );
            match recv(self.end.socket.as_raw_fd(), &mut more, MsgFlags::MSG_DONTWAIT) {
                Ok(length @ 1..) => bytes.extend_from_slice(&more[..length]),
                _ => return,
            }
        }
    }
}

/// What came at `offset`, the first wrong byte, and what that means.
pub(crate) fn diagnose(stream: Stream, offset: u64, bytes: &[u8]) -> Failure {
    let came = bytes.iter().take(ENOUGH).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let place = stream.locate(bytes);
    let here = |place: &Place| (place.connection, place.direction) == (stream.connection, stream.direction);
    let meaning = match place {
        Some(place) if !here(&place) => format!("bytes of {place}"),
        Some(place) => match place.offset - i64::try_from(offset).unwrap_or(i64::MAX) {
            0 => "a byte was changed".to_owned(),
            lost @ 1.. => format!("{place} came: {lost} bytes are lost, or come later"),
            before => format!("{place} came: {} bytes are repeated, or come late", -before),
        },
        None => {
            // A changed byte spoils the words around it; those after them are where they belong.
            let next = 8 - within_word(offset);
            let right = bytes.get(next..).is_some_and(|rest| {
                !rest.is_empty() && stream.first_wrong(offset + next as u64, rest).is_none()
            });
            if right { "a byte was changed".to_owned() } else { "bytes that belong nowhere".to_owned() }
        }
    };
    format!("wrong byte at {:?} offset {offset}: {came}: {meaning}", stream.direction)
}
