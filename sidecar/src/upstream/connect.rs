//! Dialling an upstream.

use std::io;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::net::addrs::{ClientAddr, ConnectionId, UpstreamAddr};
use crate::net::sys;

/// Why an upstream could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answered in time.
    #[error("connect to {0}: no answer within {1:?}")]
    Timeout(UpstreamAddr, Duration),
    /// The kernel or the upstream refused.
    #[error("connect to {0}: {1}")]
    Io(UpstreamAddr, io::Error),
    /// The kernel half could not note the connection as the proxy's own.
    #[error("connect to {0}: the kernel half has no room for it: {1}")]
    NotNoted(UpstreamAddr, io::Error),
}

/// What the kernel half is told of a connection to the program that the proxy serves.
#[derive(Clone, Copy, Debug)]
pub struct Errand {
    /// The connection that is being forwarded.
    pub id: ConnectionId,
    /// The client that the program's accept() and getpeername() are to show.
    pub show: ClientAddr,
}

/// Dials. Cancel safe: a dropped future leaves no connection. Without an errand the kernel half takes the connection for
/// the proxy's own all the same, and shows it as such.
pub async fn connect(
    to: UpstreamAddr,
    errand: Option<Errand>,
    timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    let failed = |error| ConnectError::Io(to, error);
    let socket = if to.0.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    if let Some(errand) = errand {
        note(&socket, to, errand)?;
    }
    socket.set_nodelay(true).map_err(failed)?;
    match tokio::time::timeout(timeout, socket.connect(to.0)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(ConnectError::Timeout(to, timeout)),
    }
}

/// A connection that is not known as the proxy's own could be steered back to us: rather none than a loop. Without a
/// kernel half that answers, none can be.
fn note(socket: &TcpSocket, to: UpstreamAddr, errand: Errand) -> Result<(), ConnectError> {
    match sys::forward(socket, errand.id, errand.show) {
        Err(error) if error.raw_os_error() != Some(libc::ENOPROTOOPT) => {
            Err(ConnectError::NotNoted(to, error))
        }
        _ => Ok(()),
    }
}
