//! One connection, from accept() on: whose it is, what it speaks, and who serves it then.

mod ingress;
mod sockets;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

pub use self::ingress::{Front, Ingress};
pub use self::sockets::Sockets;
use crate::bypass::Current;
use crate::bypass::hop::Hop;
use crate::config::Mode;
use crate::detect::{self, Spoken};
use crate::drain::Drain;
use crate::net::addrs::{ClientAddr, ConnectionId, Direction, OrigDst, canonical};
use crate::net::copy;
use crate::net::{orig_dst, sys};
use crate::observe::close_reason::CloseReason;
use crate::observe::connection::Program;
use crate::observe::programs::CgroupNames;
use crate::observe::table::{ConnectionTable, Opening, Tracked};
use crate::settings::{Latest, Settings};
use crate::{http, opaque};

/// What all connections share.
pub struct Shared {
    /// How connections reach the proxy.
    pub mode: Mode,
    /// What holds for connections that begin now.
    pub settings: Arc<Latest>,
    /// Where connections are listed.
    pub table: ConnectionTable,
    /// Admits connections and ends them.
    pub drain: Drain,
    /// The ports of the outbound and the inbound listener; dialling them is dialling the proxy itself.
    pub own_ports: [u16; 2],
    /// Finds the paths of cgroups.
    pub cgroups: CgroupNames,
    /// Where connections climb to the bypass, or why there is none.
    pub ladder: Current,
    /// What HTTP connections share.
    pub http: Arc<http::Common>,
}

/// A connection that the proxy serves.
pub struct Connection {
    /// Whose it is.
    pub accepted: Arc<Accepted>,
    /// Its place in the table.
    pub tracked: Tracked,
}

/// A connection that was accepted, and what is known of it.
pub struct Accepted {
    /// What it shares with all others.
    pub shared: Arc<Shared>,
    /// What holds for it to its end.
    pub settings: Arc<Settings>,
    /// Its sockets.
    pub sockets: Arc<Sockets>,
    /// How it came.
    pub ingress: Ingress,
    /// Where it was meant to go; `None`: to an explicit listener.
    pub destination: io::Result<Option<OrigDst>>,
    /// Its name.
    pub id: ConnectionId,
    /// Who opened it.
    pub peer: SocketAddr,
    /// Of a TLS connection: the server's name that it asks for.
    pub tls: OnceLock<Option<String>>,
}

/// How long a client may take to say what it speaks where only the way of refusing it depends on that.
const SOON: Duration = Duration::from_millis(50);

// === impl ===

/// Serves a connection to its end. Never fails: what goes wrong is its close reason. The client is reset when the
/// upstream cannot be reached, since it has seen its connection open. What is returned has begun, and is as small as it gets: there
/// is one for each connection.
pub fn serve(
    shared: Arc<Shared>,
    client: TcpStream,
    peer: SocketAddr,
    ingress: Ingress,
    permit: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send + 'static {
    let connection = begin(shared, client, peer, ingress);
    async move {
        let reason = connection.carry().await;
        connection.end(reason).await;
        drop(permit);
    }
}

/// Finds out whose it is, and lists it.
fn begin(shared: Arc<Shared>, client: TcpStream, peer: SocketAddr, ingress: Ingress) -> Connection {
    let settings = shared.settings.now();
    let ingress = ingress.by(&settings);
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
    let sockets = Arc::new(Sockets::new(client, direction, Arc::clone(&shared)));
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
    let tls = OnceLock::new();
    let accepted = Arc::new(Accepted { shared, settings, sockets, ingress, destination, id, peer, tls });
    Connection { accepted, tracked }
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

/// Makes the coming close a reset (socket(7), `SO_LINGER`), as the peer would have seen it without a proxy.
fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "SO_LINGER");
    }
}

impl Connection {
    /// Resets what did not end well, and counts what went over it.
    async fn end(self, reason: CloseReason) {
        let Self { accepted, tracked } = self;
        let (shared, sockets) = (&accepted.shared, &accepted.sockets);
        if reason != CloseReason::Finished {
            tokio::select! {
                () = Box::pin(deliver(sockets, reason)) => {}
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
    }

    /// By what it speaks.
    async fn carry(&self) -> CloseReason {
        let reason = self.served().await;
        // The first word counts.
        self.tracked.policy(self.accepted.ingress.policy());
        reason
    }

    /// Each part in a box: a connection takes the memory of what it does, not of the most that it could do.
    async fn served(&self) -> CloseReason {
        let told = async {
            tokio::select! {
                told = self.spoken() => told,
                () = self.accepted.shared.drain.forced() => Err(CloseReason::Drained),
            }
        };
        match Box::pin(told).await {
            Ok(Spoken::Http1) => Box::pin(http::serve(self, http::Version::Http1)).await,
            Ok(Spoken::Http2) => Box::pin(http::serve(self, http::Version::Http2)).await,
            Ok(Spoken::Tls | Spoken::Bytes) if self.accepted.shared.http.is_guarded(&self.accepted) => {
                CloseReason::AccessDenied
            }
            Ok(Spoken::Tls) => {
                let accepted = &self.accepted;
                if accepted.may_be_routed() {
                    let patience = accepted.settings.detection.timeout;
                    let name = Box::pin(detect::server_name(&accepted.sockets.client, patience)).await;
                    let _ = accepted.tls.set(name.unwrap_or_default());
                }
                Box::pin(opaque::forward(self)).await
            }
            Ok(Spoken::Bytes) => Box::pin(opaque::forward(self)).await,
            Err(reason) => reason,
        }
    }

    /// What the client speaks. Where nothing that it says could change where it goes, its upstream is reached meanwhile: one
    /// that speaks first is heard at once.
    async fn spoken(&self) -> Result<Spoken, CloseReason> {
        let accepted = &*self.accepted;
        let port = accepted.meant_for().map(|address| address.port());
        if port.is_some_and(|port| accepted.settings.detection.opaque_ports.binary_search(&port).is_ok())
            || matches!(&accepted.ingress, Ingress::Listener(front) if front.is_opaque())
        {
            return Ok(Spoken::Bytes);
        }
        let client = &accepted.sockets.client;
        let failed = |error: io::Error| {
            tracing::debug!(id = %accepted.id, %error, "client");
            CloseReason::ClientReset
        };
        if accepted.may_be_routed() {
            // Who is served decides on where from: only one that says nothing is taken to wait for the other side.
            if let Some(told) = detect::spoken(client, SOON).await.map_err(failed)? {
                return Ok(told);
            }
        }
        let upstream = match opaque::reach(self).await {
            Ok(upstream) => upstream,
            // Who speaks HTTP is told in HTTP.
            Err(reason) => {
                let patience =
                    if accepted.may_be_routed() { accepted.settings.detection.timeout } else { SOON };
                return match detect::spoken(client, patience).await.map_err(failed)? {
                    Some(told @ (Spoken::Http1 | Spoken::Http2)) => Ok(told),
                    _ => Err(reason),
                };
            }
        };
        tokio::select! {
            biased;
            told = detect::spoken(client, accepted.settings.detection.timeout) => {
                Ok(told.map_err(failed)?.unwrap_or(Spoken::Bytes))
            }
            () = detect::speaks_first(upstream) => Ok(Spoken::Bytes),
        }
    }
}

impl Accepted {
    /// Where it was meant to go, as far as that is known; none of an explicit listener's.
    pub fn meant_for(&self) -> Option<SocketAddr> {
        let destination = self.destination.as_ref().ok().copied().flatten();
        destination.map(|OrigDst(address)| canonical(address))
    }

    /// Its requests may go elsewhere than it was meant to.
    fn may_be_routed(&self) -> bool {
        match (&self.ingress, self.meant_for()) {
            (Ingress::Listener(_), _) => true,
            (Ingress::Outbound, _) => self.shared.http.routes_outbound(),
            (Ingress::Inbound, Some(address)) => self.shared.http.routes_inbound(address.port()),
            (Ingress::Inbound, None) => false,
        }
    }
}

impl Shared {
    /// The hop of a further connection to an upstream.
    pub fn later_hop(&self) -> Option<Hop> {
        let ladder = self.ladder.get().ok()?;
        Some(Hop::new(ladder, Direction::Inbound, self.cgroups.clone(), Arc::default()))
    }

    /// The destination is a listener of this proxy.
    pub fn is_own(&self, client: &TcpStream, destination: SocketAddr) -> bool {
        let here =
            |local: SocketAddr| canonical(local).ip() == destination.ip() || destination.ip().is_loopback();
        self.own_ports.contains(&destination.port()) && client.local_addr().is_ok_and(here)
    }
}
