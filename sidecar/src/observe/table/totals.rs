//! Counts of what the proxy served, for metrics.

use super::half::ProxyHalf;
use crate::net::addrs::Direction;
use crate::observe::close_reason::CloseReason;

/// What the proxy served since it began.
#[derive(Clone, Default, Debug)]
pub struct Totals {
    inbound: DirectionTotals,
    outbound: DirectionTotals,
    /// Connections that were served, and not listed.
    pub unlisted: u64,
}

/// What the proxy served in one direction.
#[derive(Clone, Default, Debug)]
pub struct DirectionTotals {
    /// Connections begun.
    pub opened: u64,
    /// Connections ended, by [`CloseReason`] as its number.
    pub closed: [u64; CloseReason::ALL.len()],
    /// Payload from the program, in bytes.
    pub bytes_sent: u64,
    /// Payload to the program, in bytes.
    pub bytes_received: u64,
    /// The part of `bytes_sent` that went from socket to socket.
    pub bypass_sent: u64,
    /// The part of `bytes_received` that did.
    pub bypass_received: u64,
}

impl Totals {
    /// One direction's.
    pub fn of(&self, direction: Direction) -> &DirectionTotals {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// Connections begun.
    pub fn opened(&self) -> u64 {
        self.inbound.opened + self.outbound.opened
    }

    pub(super) fn of_mut(&mut self, direction: Direction) -> &mut DirectionTotals {
        match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
        }
    }

    pub(super) fn add_bytes(&mut self, half: &ProxyHalf) {
        let (sent, received) = half.bytes();
        let totals = self.of_mut(half.opening.direction);
        totals.bytes_sent += sent;
        totals.bytes_received += received;
        let bypass = half.bypass();
        totals.bypass_sent += bypass.to_proxy.bytes;
        totals.bypass_received += bypass.to_program.bytes;
    }
}

impl DirectionTotals {
    /// Connections that are up.
    pub fn open(&self) -> u64 {
        self.opened - self.closed.iter().sum::<u64>()
    }
}
