//! Requests of HTTP/1.1 on connections that stay, each as soon as the last was answered.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll, Token};

use super::meter::Meter;
use super::ping::{WARM, wait};
use super::request::Requester;
use crate::http1;
use crate::metric::Sample;

/// Measures.
pub(super) fn run(
    target: SocketAddr,
    mut meter: Meter,
    connections: usize,
    token: Option<&str>,
) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let begin = |index| Requester::begin(target, &poll, Token(index));
    let mut requesters = (0..connections).map(begin).collect::<Result<Vec<_>, _>>()?;
    let request = http1::request(target.port(), token);
    let mut events = Events::with_capacity(connections.clamp(1, 1024));
    let (mut answers, mut at_start) = (vec![0_u64; connections], None);
    let mut cold = connections;
    meter.begin();
    loop {
        wait(&mut poll, &mut events)?;
        let mut now = Instant::now();
        for event in &events {
            let index = event.token().0;
            let requester = &mut requesters[index];
            if requester.progress(&request).context("a connection broke")? {
                now = Instant::now();
                meter.record(now - requester.since);
                answers[index] += 1;
                cold -= usize::from(answers[index] == WARM);
                requester.again(now, &request).context("a connection broke")?;
            }
        }
        if meter.is_over(now, cold == 0)? {
            break;
        }
        if at_start.is_none() && meter.is_measuring() {
            at_start = Some(answers.clone());
        }
    }
    let stalled = answers.iter().zip(at_start.iter().flatten()).filter(|(now, then)| now == then).count();
    ensure!(stalled < connections, "no connection made progress");
    meter.messages(stalled)
}
