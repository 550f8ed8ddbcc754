//! The proxy's listeners: bound, announced to the kernel half, accepting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sidecar_common::flow::Role;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::sys;

/// How many connections wait to be accepted at most; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long to wait when there is no file descriptor or memory for the next connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(20);
/// How often a free port is looked for that is free on all addresses.
const PORT_TRIES: usize = 32;

/// The addresses of a pair of listeners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// 127.0.0.1 and `::1`: the kernel half brings connections, nobody else reaches the port from outside.
    Loopback,
    /// All addresses: iptables' REDIRECT sends a connection to the address of the interface that it came in on.
    All,
}

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address} ({what}): {cause}{}", remedy(cause))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What for.
    pub what: &'static str,
    cause: io::Error,
}

/// A listener, and whether the kernel half knows what it is for.
#[derive(Debug)]
pub struct Announced {
    /// The listener.
    pub listener: TcpListener,
    /// False: there was a role to announce, and no kernel half that listened.
    pub heard: bool,
}

/// Listens on one port of both address families. `port` 0: a free one. Where the namespace has no IPv6, on IPv4 only.
pub fn pair(
    scope: Scope,
    port: u16,
    what: &'static str,
    role: Option<Role>,
) -> Result<Vec<Announced>, ListenError> {
    let (v4, v6): (IpAddr, IpAddr) = match scope {
        Scope::Loopback => (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
        Scope::All => (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()),
    };
    for attempt in 1.. {
        let first = announced(SocketAddr::new(v4, port), what, role)?;
        let actual = first.listener.local_addr().map_err(|cause| ListenError {
            address: SocketAddr::new(v4, port),
            what,
            cause,
        })?;
        match announced(SocketAddr::new(v6, actual.port()), what, role) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if no_ipv6(&error.cause) => return Ok(vec![first]),
            Err(error) if port == 0 && attempt < PORT_TRIES && in_use(&error.cause) => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("the loop ends by its last attempt")
}

/// Listens on one address.
pub fn one(address: SocketAddr, what: &'static str, role: Option<Role>) -> Result<TcpListener, ListenError> {
    Ok(announced(address, what, role)?.listener)
}

fn announced(address: SocketAddr, what: &'static str, role: Option<Role>) -> Result<Announced, ListenError> {
    bind(address, role, Place::Own).map_err(|cause| ListenError { address, what, cause })
}

/// Another listener on the address of one that is bound already: the kernel spreads connections over both (socket(7),
/// `SO_REUSEPORT`).
pub fn sibling(
    address: SocketAddr,
    what: &'static str,
    role: Option<Role>,
) -> Result<Announced, ListenError> {
    bind(address, role, Place::Shared).map_err(|cause| ListenError { address, what, cause })
}

/// Takes a listener off: the kernel half sends nothing here any more, and what waits can still be accepted.
pub fn retire(listener: &std::net::TcpListener) {
    if let Err(error) = sys::announce(listener, Role::Retired) {
        tracing::debug!(%error, "a listener could not be retired");
    }
}

/// Waits for the next connection. Cancel safe. Never fails: what one connection meets is not the listener's end, and
/// where the process is out of file descriptors, it waits for some to come back.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if exhausted(&error) => {
                tracing::warn!(%error, "connections wait: raise the limit of open files");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            // The client went away while it waited (accept(2)).
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
}

/// Whether a port must be free, or is one of our own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Own,
    Shared,
}

fn bind(address: SocketAddr, role: Option<Role>, place: Place) -> io::Result<Announced> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if place == Place::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    // Only now: a port that another process has must not be shared with it.
    socket.set_reuse_port(true)?;
    let heard = match role.map(|role| sys::announce(&socket, role)) {
        None | Some(Ok(())) => true,
        // Connections may still come by other ways.
        Some(Err(error)) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => false,
        Some(Err(error)) => return Err(error),
    };
    socket.listen(BACKLOG)?;
    Ok(Announced { listener: TcpListener::from_std(socket.into())?, heard })
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

fn in_use(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRINUSE)
}

fn exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => ": another process has the port; choose one under `spec.ports`",
        Some(libc::EACCES) => ": ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}
