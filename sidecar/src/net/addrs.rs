//! The addresses and names of a connection, each as its own type, so that one cannot be taken for another.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a program meant to connect to (outbound), or where a client meant to reach us (inbound).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OrigDst(pub SocketAddr);

/// Who opened a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientAddr(pub SocketAddr);

/// Where the proxy connects to on behalf of a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UpstreamAddr(pub SocketAddr);

/// Names a connection on this machine while it is up: the cookie of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u64);

/// Which way a connection goes, seen from the program beside the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// Somebody calls the program.
    Inbound,
    /// The program calls somebody.
    Outbound,
}

// === impl ===

/// The address without an IPv4-mapped form (RFC 4291 section 2.5.5.2): `::ffff:10.0.0.1` is 10.0.0.1.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// True for loopback and for the unspecified addresses, which connect() takes for loopback.
pub fn is_loopback(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

impl Direction {
    /// `inbound` or `outbound`, as output and labels spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl fmt::Display for OrigDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for UpstreamAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use proptest::prelude::*;
    use sidecar_common::address::{Endpoint, Ip};

    use super::{canonical, is_loopback};

    proptest! {
        #[test]
        fn every_address_survives_the_maps(ip: IpAddr, port: u16) {
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(SocketAddr::from(Endpoint::from(address)), canonical(address));
        }

        #[test]
        fn mapped_and_plain_are_one(bits: u32) {
            let plain = Ipv4Addr::from(bits);
            prop_assert_eq!(Ip::from(IpAddr::from(plain)), Ip::from(IpAddr::from(plain.to_ipv6_mapped())));
            prop_assert!(Ip::from(IpAddr::from(plain)).is_v4());
        }

        #[test]
        fn both_halves_agree_on_loopback(ip: IpAddr) {
            prop_assert_eq!(Ip::from(ip).is_loopback(), is_loopback(ip));
        }

        #[test]
        fn both_halves_agree_on_loopback_networks(low: u32, v6 in 0_u128..4) {
            let v4 = IpAddr::from(Ipv4Addr::from(0x7f00_0000 | low >> 8));
            prop_assert!(Ip::from(v4).is_loopback() && is_loopback(v4));
            let v6 = IpAddr::from(Ipv6Addr::from(v6));
            prop_assert_eq!(Ip::from(v6).is_loopback(), is_loopback(v6));
        }

        #[test]
        fn canonical_is_idempotent(ip: IpAddr, port: u16) {
            let once = canonical(SocketAddr::new(ip, port));
            prop_assert_eq!(canonical(once), once);
        }
    }
}
