//! The sockets of a connection, and their hops past the TCP stack.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use tokio::net::TcpStream;

use super::Shared;
use crate::bypass::hop::{Hop, State};
use crate::net::addrs::Direction;
use crate::net::copy::Observer;
use crate::net::sys;
use crate::observe::connection::{Program, Standing};
use crate::observe::table::{Probe, Probed, Tracked};

/// Both sockets of a connection, for whoever asks about it while it is up.
pub struct Sockets {
    /// Before the sockets, so that they are dropped first: the kernel half forgets what it counted as a socket closes.
    hops: OnceLock<Hops>,
    /// The client's.
    pub client: TcpStream,
    /// The upstream's, once it is connected.
    pub upstream: OnceLock<Arc<TcpStream>>,
    /// Requests use it already.
    first_taken: AtomicBool,
    /// Seen from the program.
    pub direction: Direction,
    shared: Arc<Shared>,
}

/// The hops of a connection that may skip the TCP stack. The server's is one only where it is on this machine too.
struct Hops {
    client: Hop,
    upstream: Hop,
}

impl Sockets {
    /// Those of a connection whose upstream is not connected yet.
    pub(super) fn new(client: TcpStream, direction: Direction, shared: Arc<Shared>) -> Self {
        Self {
            hops: OnceLock::new(),
            client,
            upstream: OnceLock::new(),
            first_taken: AtomicBool::new(false),
            direction,
            shared,
        }
    }

    /// The upstream's socket that is connected already, for whoever asks first.
    pub fn take_first(&self) -> Option<Arc<TcpStream>> {
        let first = self.upstream.get()?;
        (!self.first_taken.swap(true, Ordering::Relaxed)).then(|| Arc::clone(first))
    }

    /// Something went over the client's socket.
    pub fn client_message(&self) {
        if let Some(hops) = self.hops.get() {
            hops.client.message(&self.client);
        }
    }

    /// Something went over the upstream's.
    pub fn upstream_message(&self) {
        if let (Some(hops), Some(upstream)) = (self.hops.get(), self.upstream.get()) {
            hops.upstream.message(upstream);
        }
    }

    /// The hop of one of them.
    pub fn hop_of(&self, socket: &TcpStream) -> Option<&Hop> {
        let of_client = std::ptr::eq(socket, &raw const self.client);
        self.hops.get().map(|hops| if of_client { &hops.client } else { &hops.upstream })
    }

    /// Asks what of the program's hop was redirected until now.
    pub(super) fn count(&self) {
        if let Some(hops) = self.hops.get() {
            hops.client.count();
            hops.upstream.count();
        }
    }

    /// Puts the hops on the ladder, if there is one.
    pub fn climb(&self, tracked: &Tracked) {
        let counters = tracked.counters();
        let state = &counters.bypass;
        let ladder = match self.shared.ladder.get() {
            Ok(ladder) => ladder,
            Err(reason) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                *state = State {
                    standing: Standing::Off,
                    reason: Some(reason.to_string().into()),
                    ..State::default()
                };
                return;
            }
        };
        let hop = |of_program: bool, direction| {
            let state = match of_program {
                true => Arc::clone(state),
                false if ladder.meets_proxies() => Arc::clone(counters.same_node.get_or_init(Arc::default)),
                false => Arc::default(),
            };
            Hop::new(Arc::clone(&ladder), direction, self.shared.cgroups.clone(), state)
        };
        // The client's program dialled, the upstream's accepts.
        let outbound = self.direction == Direction::Outbound;
        let _ = self.hops.set(Hops {
            client: hop(outbound, Direction::Outbound),
            upstream: hop(!outbound, Direction::Inbound),
        });
    }
}

impl Observer for Sockets {
    fn message(&self) {
        if let (Some(hops), Some(upstream)) = (self.hops.get(), self.upstream.get()) {
            hops.client.message(&self.client);
            hops.upstream.message(upstream);
        }
    }

    fn is_bypassed(&self, socket: &TcpStream) -> bool {
        self.hop_of(socket).is_some_and(Hop::is_bypassed)
    }

    fn is_abandoned(&self, socket: &TcpStream) -> bool {
        self.hop_of(socket).is_some_and(Hop::is_abandoned)
    }
}

impl Probe for Sockets {
    /// Round trips and retransmits are those of the socket that faces the network; the program is that of the
    /// kernel half's record.
    fn probe(&self) -> Probed {
        let upstream = self.upstream.get().map(|upstream| &**upstream);
        let (network, program) = match self.direction {
            Direction::Outbound => (upstream, Some(&self.client)),
            Direction::Inbound => (Some(&self.client), upstream),
        };
        self.count();
        let info = network.and_then(|socket| sys::tcp_info(socket).ok());
        let record = program.and_then(sys::record);
        Probed {
            rtt_us: info.map(|info| info.rtt_us),
            retransmits: info.map(|info| info.retransmits),
            program: record.filter(|record| record.program.pid != 0).map(|record| {
                let cgroup = self.shared.cgroups.path(record.program.cgroup, record.program.pid);
                Program::from_kernel(&record.program, cgroup)
            }),
        }
    }
}
