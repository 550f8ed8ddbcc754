//! Addresses as maps hold them.

use crate::shared;

/// The first 12 bytes of an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
pub const MAPPED_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// An IP address, IPv4 as IPv4-mapped IPv6, in network order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ip(pub [u8; 16]);

/// An IP address and a TCP port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// The address.
    pub ip: Ip,
    /// The port, host order.
    pub port: u16,
    /// Zero: keeps the layout free of padding.
    pub reserved: [u8; 6],
}

/// The key of the CIDR tries: the direction, then the address. Its prefix length is `8 + 96 + n` for an IPv4
/// network of `n` bits and `8 + n` for an IPv6 one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CidrKey {
    /// A [`crate::settings::Direction`] as its number.
    pub direction: u8,
    /// The network's address.
    pub ip: Ip,
}

shared! {
    Ip = 16;
    Endpoint = 24;
    CidrKey = 17;
}

impl Ip {
    /// The IPv4 address whose bytes are given in network order.
    #[inline(always)]
    pub const fn v4(b: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, b[0], b[1], b[2], b[3]])
    }

    /// True for IPv4 and IPv4-mapped addresses.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        let (high, mid, _) = self.words();
        high == 0 && mid == 0xffff
    }

    /// The bytes of an IPv4 address; meaningless for others.
    #[inline(always)]
    pub const fn v4_bytes(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    /// True for `0.0.0.0` and `::`.
    #[inline(always)]
    pub fn is_unspecified(&self) -> bool {
        let (high, mid, low) = self.words();
        high == 0 && low == 0 && (mid == 0 || mid == 0xffff)
    }

    /// True for `127.0.0.0/8`, `::1`, and for the unspecified addresses, which connect() takes for loopback.
    #[inline(always)]
    pub fn is_loopback(&self) -> bool {
        let (high, mid, low) = self.words();
        if high != 0 {
            return false;
        }
        (mid == 0xffff && low >> 24 == 127) || (mid == 0 && low == 1) || self.is_unspecified()
    }

    /// Bytes 0 to 7, 8 to 11 and 12 to 15 as numbers.
    #[inline(always)]
    fn words(&self) -> (u64, u32, u32) {
        let b = &self.0;
        (
            u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            u32::from_be_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_be_bytes([b[12], b[13], b[14], b[15]]),
        )
    }
}

impl Endpoint {
    /// An endpoint.
    #[inline(always)]
    pub const fn new(ip: Ip, port: u16) -> Self {
        Self { ip, port, reserved: [0; 6] }
    }
}

#[cfg(feature = "user")]
mod std_conversions {
    extern crate std;
    use super::{Endpoint, Ip, MAPPED_PREFIX};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    impl From<IpAddr> for Ip {
        fn from(ip: IpAddr) -> Self {
            match ip {
                IpAddr::V4(v4) => Self::v4(v4.octets()),
                IpAddr::V6(v6) => Self(v6.octets()),
            }
        }
    }

    impl From<Ip> for IpAddr {
        fn from(ip: Ip) -> Self {
            if ip.0.starts_with(&MAPPED_PREFIX) {
                Ipv4Addr::from(ip.v4_bytes()).into()
            } else {
                Ipv6Addr::from(ip.0).into()
            }
        }
    }

    impl From<SocketAddr> for Endpoint {
        fn from(address: SocketAddr) -> Self {
            Self::new(address.ip().into(), address.port())
        }
    }

    impl From<Endpoint> for SocketAddr {
        fn from(endpoint: Endpoint) -> Self {
            Self::new(endpoint.ip.into(), endpoint.port)
        }
    }
}
