//! Forwarding one TCP connection as bytes: from the accepted socket to the upstream and back, until both are closed.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

use sidecar_common::flow::Role;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::bypass::Ladder;
use crate::bypass::hop::{Hop, State};
use crate::config::{Mode, Timeouts};
use crate::drain::Drain;
use crate::net::addrs::{ClientAddr, ConnectionId, Direction, OrigDst, UpstreamAddr, canonical};
use crate::net::copy::{self, End, Meters, Observer, Progress};
use crate::net::{orig_dst, sys};
use crate::observe::close_reason::CloseReason;
use crate::observe::connection::{Program, Standing};
use crate::observe::programs::CgroupNames;
use crate::observe::table::{ConnectionTable, Opening, Probe, Probed, Tracked};
use crate::upstream::backend::Backend;
use crate::upstream::connect::{ConnectError, Errand, connect};

/// What all connections share.
pub struct Shared {
    /// How connections reach the proxy.
    pub mode: Mode,
    /// How long it waits.
    pub timeouts: Timeouts,
    /// Where connections are listed.
    pub table: ConnectionTable,
    /// Admits connections and ends them.
    pub drain: Drain,
    /// The ports of the outbound and the inbound listener; dialling them is dialling the proxy itself.
    pub own_ports: [u16; 2],
    /// Finds the paths of cgroups.
    pub cgroups: CgroupNames,
    /// Where connections climb to the bypass, or why there is none.
    pub ladder: Result<Arc<Ladder>, Arc<str>>,
}

/// How a connection came.
#[derive(Clone)]
pub enum Ingress {
    /// Captured on its way out.
    Outbound,
    /// Steered on its way in.
    Inbound,
    /// Through an explicit listener.
    Listener(Arc<Backend>),
}

/// Both sockets of a connection, for whoever asks about it while it is up.
struct Sockets {
    client: TcpStream,
    upstream: OnceLock<TcpStream>,
    direction: Direction,
    shared: Arc<Shared>,
    hops: OnceLock<Hops>,
}

/// The hops of a connection that may skip the TCP stack. The server's is one only where it is on this machine too.
struct Hops {
    client: Hop,
    upstream: Hop,
}

// === impl ===

/// Serves a connection to its end. Never fails: what goes wrong is its close reason. The client is reset when the
/// upstream cannot be reached, since it has seen its connection open.
pub async fn serve(
    shared: Arc<Shared>,
    client: TcpStream,
    peer: SocketAddr,
    ingress: Ingress,
    permit: OwnedSemaphorePermit,
) {
    let direction = ingress.direction();
    // An inbound connection's record is that of the program, which is not connected yet.
    let captured = matches!(ingress, Ingress::Outbound) && shared.mode == Mode::Ebpf;
    let record = captured.then(|| sys::record(&client)).flatten();
    let destination = match (&ingress, &record) {
        (Ingress::Listener(_), _) => Ok(None),
        // The record says it as well: a system call less.
        (_, Some(record)) => Ok(Some(OrigDst(record.original_destination.into()))),
        _ => orig_dst::original_destination(&client, direction, shared.mode),
    };
    let id = match &record {
        Some(record) => ConnectionId(record.id),
        None => ConnectionId(SockRef::from(&client).cookie().unwrap_or_default()),
    };
    let sockets = Arc::new(Sockets {
        client,
        upstream: OnceLock::new(),
        direction,
        shared: Arc::clone(&shared),
        hops: OnceLock::new(),
    });
    let probe: Weak<Sockets> = Arc::downgrade(&sockets);
    let tracked = shared.table.open(Opening {
        id,
        direction,
        source: ClientAddr(canonical(peer)),
        original_destination: destination.as_ref().ok().copied().flatten(),
        program: record.as_ref().map(|record| {
            let cgroup = shared.cgroups.path(record.program.cgroup, record.program.pid);
            Program::from_kernel(&record.program, cgroup)
        }),
        probe,
    });
    tracked.policy(ingress.policy());
    let reached = tokio::select! {
        reached = reach(&shared, &sockets, &tracked, &ingress, destination, id) => reached,
        () = shared.drain.forced() => Err(CloseReason::Drained),
    };
    let reason = match reached {
        Ok(upstream) => exchange(&shared, &sockets, &tracked, upstream).await,
        Err(reason) => reason,
    };
    if reason != CloseReason::Finished {
        tokio::select! {
            () = deliver(&sockets, reason) => {}
            () = shared.drain.forced() => {}
        }
        reset(&sockets.client);
        if let Some(upstream) = sockets.upstream.get() {
            reset(upstream);
        }
    }
    // Whether anybody looks at it or not: it goes into the totals.
    sockets.count();
    tracked.close(reason);
    drop(sockets);
    drop(permit);
}

/// Resets a connection for which there is no room.
pub fn refuse(shared: &Shared, client: &TcpStream, peer: SocketAddr, ingress: &Ingress) {
    let tracked = shared.table.open(Opening {
        id: ConnectionId(SockRef::from(client).cookie().unwrap_or_default()),
        direction: ingress.direction(),
        source: ClientAddr(canonical(peer)),
        original_destination: None,
        program: None,
        probe: Weak::<Sockets>::new(),
    });
    reset(client);
    tracked.close(CloseReason::LimitReached);
}

/// Before a reset: lets the side that lives have all that came before the other failed.
async fn deliver(sockets: &Sockets, reason: CloseReason) {
    match (reason, sockets.upstream.get()) {
        (CloseReason::UpstreamReset, _) => copy::settle(&sockets.client).await,
        (CloseReason::ClientReset, Some(upstream)) => copy::settle(upstream).await,
        _ => {}
    }
}

/// Finds the upstream and connects to it.
async fn reach<'a>(
    shared: &Shared,
    sockets: &'a Sockets,
    tracked: &Tracked,
    ingress: &Ingress,
    destination: io::Result<Option<OrigDst>>,
    id: ConnectionId,
) -> Result<&'a TcpStream, CloseReason> {
    let target = match ingress {
        Ingress::Listener(backend) => match backend.pick().await {
            Ok(address) => address,
            Err(error) => {
                tracing::info!(%id, %error, "no endpoint");
                return Err(CloseReason::ConnectFailed);
            }
        },
        _ => match destination {
            Ok(Some(OrigDst(address))) if shared.is_own(&sockets.client, address) => {
                return Err(CloseReason::Loop);
            }
            Ok(Some(OrigDst(address))) => UpstreamAddr(address),
            Ok(None) => return Err(CloseReason::NoOriginalDestination),
            Err(error) => {
                tracing::debug!(%id, %error, "original destination");
                return Err(CloseReason::NoOriginalDestination);
            }
        },
    };
    let errand = match (ingress, shared.mode) {
        (Ingress::Inbound, Mode::Ebpf) => {
            sockets.client.peer_addr().ok().map(|peer| Errand { id, show: ClientAddr(peer) })
        }
        _ => None,
    };
    let upstream = match connect(target, errand, shared.timeouts.connect).await {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::debug!(%id, %error, "upstream");
            return Err(connect_failure(&error));
        }
    };
    tracked.connected(target);
    let _ = sockets.client.set_nodelay(true);
    Ok(sockets.upstream.get_or_init(|| upstream))
}

/// Copies until both sides are done, or until the application is gone and all that it sent is delivered.
async fn exchange(
    shared: &Shared,
    sockets: &Sockets,
    tracked: &Tracked,
    upstream: &TcpStream,
) -> CloseReason {
    let counters = tracked.counters();
    let progress = Progress::default();
    let (meters, from_application) = match sockets.direction {
        Direction::Outbound => (Meters { forth: &counters.sent, back: &counters.received }, &progress.forth),
        Direction::Inbound => (Meters { forth: &counters.received, back: &counters.sent }, &progress.back),
    };
    sockets.climb(tracked);
    let delivered = async {
        shared.drain.without_application().await;
        from_application.notified().await;
    };
    let told = async {
        tokio::select! {
            () = delivered => CloseReason::Finished,
            () = shared.drain.forced() => CloseReason::Drained,
        }
    };
    let ends = (&sockets.client, upstream);
    match copy::bidirectional(ends, meters, &progress, sockets, shared.timeouts.idle, told).await {
        End::Finished => CloseReason::Finished,
        End::Idle => CloseReason::IdleTimeout,
        End::Told(reason) => reason,
        End::First(error) => {
            tracing::debug!(%error, "client");
            CloseReason::ClientReset
        }
        End::Second(error) => {
            tracing::debug!(%error, "upstream");
            CloseReason::UpstreamReset
        }
    }
}

fn connect_failure(error: &ConnectError) -> CloseReason {
    match error {
        ConnectError::Timeout(..) => CloseReason::ConnectTimeout,
        ConnectError::NotNoted(..) => CloseReason::LimitReached,
        ConnectError::Io(_, error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => CloseReason::ConnectRefused,
            Some(libc::ETIMEDOUT) => CloseReason::ConnectTimeout,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => CloseReason::Unreachable,
            _ => CloseReason::ConnectFailed,
        },
    }
}

/// Makes the coming close a reset (socket(7), `SO_LINGER`), as the peer would have seen it without a proxy.
fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "SO_LINGER");
    }
}

impl Shared {
    /// The destination is a listener of this proxy.
    fn is_own(&self, client: &TcpStream, destination: SocketAddr) -> bool {
        let here =
            |local: SocketAddr| canonical(local).ip() == destination.ip() || destination.ip().is_loopback();
        self.own_ports.contains(&destination.port()) && client.local_addr().is_ok_and(here)
    }
}

impl Ingress {
    /// A client of an explicit listener comes in.
    pub fn direction(&self) -> Direction {
        match self {
            Self::Outbound => Direction::Outbound,
            Self::Inbound | Self::Listener(_) => Direction::Inbound,
        }
    }

    /// What the kernel half is told of its listeners.
    pub fn role(&self, mode: Mode) -> Option<Role> {
        let role = match self {
            Self::Outbound => Role::Outbound,
            Self::Inbound => Role::Inbound,
            Self::Listener(_) => Role::Own,
        };
        (mode == Mode::Ebpf).then_some(role)
    }

    fn policy(&self) -> Arc<str> {
        match self {
            Self::Outbound | Self::Inbound => "passthrough".into(),
            Self::Listener(backend) => format!("forward:{}", backend.name()).into(),
        }
    }
}

impl Sockets {
    fn hop_of(&self, socket: &TcpStream) -> Option<&Hop> {
        let of_client = std::ptr::eq(socket, &raw const self.client);
        self.hops.get().map(|hops| if of_client { &hops.client } else { &hops.upstream })
    }

    /// Asks what of the program's hop was redirected until now.
    fn count(&self) {
        if let Some(hops) = self.hops.get() {
            match self.direction {
                Direction::Outbound => hops.client.count(),
                Direction::Inbound => hops.upstream.count(),
            }
        }
    }

    /// Puts the hops on the ladder, if there is one.
    fn climb(&self, tracked: &Tracked) {
        let state = &tracked.counters().bypass;
        let ladder = match &self.shared.ladder {
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
            let state = if of_program { Arc::clone(state) } else { Arc::default() };
            Hop::new(Arc::clone(ladder), direction, self.shared.cgroups.clone(), state)
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
        let upstream = self.upstream.get();
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
