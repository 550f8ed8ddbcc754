//! A connection for each message.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;
use mio::{Events, Poll, Token};

use super::meter::Meter;
use super::ping::{Exchange, wait};
use crate::case::SMALL;
use crate::metric::Sample;

/// Measures: the latency of a message is from connect() to its answer.
pub(super) fn run(target: SocketAddr, mut meter: Meter, workers: usize) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let begin = |poll: &Poll, worker| Exchange::begin(target, poll, Token(worker));
    let mut exchanges = (0..workers).map(|worker| begin(&poll, worker)).collect::<Result<Vec<_>, _>>()?;
    let (message, mut buffer) = ([b'x'; SMALL], [0; SMALL]);
    let mut events = Events::with_capacity(workers.max(1));
    let mut failures = 0;
    meter.begin();
    loop {
        wait(&mut poll, &mut events)?;
        let mut now = Instant::now();
        for event in &events {
            let worker = event.token().0;
            match exchanges[worker].progress(&message, &mut buffer) {
                Ok(false) => continue,
                Ok(true) => {
                    now = Instant::now();
                    meter.record(exchanges[worker].latency(now));
                }
                Err(_) => failures += usize::from(meter.is_measuring()),
            }
            // Closes the old one.
            exchanges[worker] = begin(&poll, worker)?;
        }
        if meter.is_over(now, true)? {
            return meter.messages(failures);
        }
    }
}
