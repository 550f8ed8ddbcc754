//! Where an accepted connection was meant to go.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::addrs::{Direction, OrigDst, canonical};
use crate::config::Mode;

/// Asks the kernel. `Ok(None)`: nobody sent it here, somebody dialled the proxy itself.
///
/// Outbound, and inbound behind iptables: `SO_ORIGINAL_DST`, answered by our hook or by conntrack. Inbound behind the
/// kernel half: the socket's own local address, since nothing was rewritten.
pub fn original_destination(
    stream: &TcpStream,
    direction: Direction,
    mode: Mode,
) -> io::Result<Option<OrigDst>> {
    let local = stream.local_addr()?;
    let destination = match (mode, direction) {
        (Mode::Ebpf, Direction::Inbound) => local,
        _ => match ask(stream, local)? {
            Some(destination) => destination,
            None => return Ok(None),
        },
    };
    let destination = canonical(destination);
    // conntrack answers a connection that it did not rewrite with what it was.
    Ok((destination != canonical(local) || mode == Mode::Ebpf).then_some(OrigDst(destination)))
}

fn ask(stream: &TcpStream, local: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(stream);
    let v4 = local.is_ipv4() || canonical(local).is_ipv4();
    let answer = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    match answer {
        Ok(address) => Ok(address.as_socket()),
        // Neither our hook nor conntrack knows it.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT | libc::EOPNOTSUPP)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
