//! The signals that this process reacts to.

use std::fs::{self, File};
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use nix::sys::signal::Signal;
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::signal::unix::{SignalKind, signal};

/// Those that are passed on to CMD. SIGHUP is ours ([`Hangups`]): when a terminal goes, CMD hears it from the terminal.
const RECEIVED: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Receives signals. From its making on they no longer end the process. Those that whoever started us had ignored,
/// as nohup(1) does, stay ignored, also by CMD.
pub struct Signals {
    streams: Vec<(Signal, tokio::signal::unix::Signal)>,
}

/// Receives SIGHUP, which from its making on no longer ends the process, unless whoever started us had it ignored.
pub struct Hangups(Option<tokio::signal::unix::Signal>);

impl Hangups {
    /// Within a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let hears = is_wanted(Signal::SIGHUP, ignored());
        Ok(Self(hears.then(|| signal(SignalKind::hangup())).transpose()?))
    }

    /// Resolves at the next one. Cancel safe.
    pub async fn next(&mut self) {
        if let Some(stream) = &mut self.0
            && stream.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

impl Signals {
    /// Within a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let ignored = ignored();
        let wanted = RECEIVED.into_iter().filter(|signal| is_wanted(*signal, ignored));
        let stream = |kind: Signal| Ok((kind, signal(SignalKind::from_raw(kind as i32))?));
        Ok(Self { streams: wanted.map(stream).collect::<io::Result<_>>()? })
    }

    /// The next signal that CMD has not received itself: what a terminal sends, it sends to its whole foreground
    /// process group. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        loop {
            let signal = self.any().await;
            let keyboard = matches!(signal, Signal::SIGINT | Signal::SIGQUIT);
            if !(keyboard && in_foreground()) {
                return signal;
            }
        }
    }

    /// Resolves when this process is asked to end. Cancel safe.
    pub async fn end(&mut self) {
        loop {
            match self.any().await {
                Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT => return,
                _ => {}
            }
        }
    }

    async fn any(&mut self) -> Signal {
        poll_fn(|context| {
            for (kind, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// It is not among those that are ignored.
fn is_wanted(signal: Signal, ignored: u64) -> bool {
    ignored & (1 << (signal as u32 - 1)) == 0
}

/// `SigIgn` of `proc_pid_status(5)`: bit n-1 is signal n.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// This process belongs to the foreground process group of its terminal, whatever its standard input is.
fn in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|tty| tcgetpgrp(&tty).is_ok_and(|group| group == getpgrp()))
}
