//! Addresses as maps hold them.

use crate::shared;

/// The third word of an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2), in network order.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// An IP address: four words, each in network order; IPv4 as IPv4-mapped IPv6.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ip(pub [u32; 4]);

/// An IP address and a TCP port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// The address.
    pub ip: Ip,
    /// The port, host order.
    pub port: u16,
    /// Zero: keeps the layout free of padding.
    pub reserved: [u16; 3],
}

/// The key of the CIDR tries: the direction, then the address. Its prefix length is `32 + 96 + n` for an IPv4
/// network of `n` bits and `32 + n` for an IPv6 one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CidrKey {
    /// A [`crate::settings::Direction`] as its number.
    pub direction: u32,
    /// The network's address.
    pub ip: Ip,
}

shared! {
    Ip = 16;
    Endpoint = 24;
    CidrKey = 20;
}

impl Ip {
    /// The IPv4 address given in network order.
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Self([0, 0, MAPPED, address])
    }

    /// True for IPv4 and IPv4-mapped addresses.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// True for `0.0.0.0` and `::`.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        let [a, b, c, d] = self.0;
        a == 0 && b == 0 && d == 0 && (c == 0 || c == MAPPED)
    }

    /// True for `127.0.0.0/8`, `::1`, and for the unspecified addresses, which connect() takes for loopback.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        let [a, b, c, d] = self.0;
        let v4 = c == MAPPED && u32::from_be(d) >> 24 == 127;
        let v6 = c == 0 && u32::from_be(d) == 1;
        a == 0 && b == 0 && (v4 || v6) || self.is_unspecified()
    }

    /// True for `fe80::/10` (RFC 4291 section 2.5.6): means nothing without an interface, which a map does not hold.
    #[inline(always)]
    pub const fn is_v6_link_local(&self) -> bool {
        u32::from_be(self.0[0]) >> 22 == 0xfe80 >> 6
    }
}

impl Endpoint {
    /// An endpoint.
    #[inline(always)]
    pub const fn new(ip: Ip, port: u16) -> Self {
        Self { ip, port, reserved: [0; 3] }
    }
}

#[cfg(feature = "user")]
mod std_conversions {
    extern crate std;
    use super::{Endpoint, Ip};
    use std::net::{IpAddr, Ipv6Addr, SocketAddr};

    impl From<IpAddr> for Ip {
        fn from(ip: IpAddr) -> Self {
            let octets = match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let word =
                |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
            Self([word(0), word(4), word(8), word(12)])
        }
    }

    impl From<Ip> for IpAddr {
        fn from(ip: Ip) -> Self {
            let mut octets = [0; 16];
            for (chunk, word) in octets.chunks_exact_mut(4).zip(ip.0) {
                chunk.copy_from_slice(&word.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
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

#[cfg(all(test, feature = "user"))]
mod tests {
    extern crate std;
    use super::{Endpoint, Ip};
    use std::net::{IpAddr, SocketAddr};

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["10.1.2.3:80", "[2001:db8::1]:443", "0.0.0.0:1", "[::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(Endpoint::from(address)), address);
        }
    }

    #[test]
    fn link_local_is_fe80_10() {
        for (text, expected) in [
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("fd00::1", false),
            ("254.128.0.1", false),
        ] {
            assert_eq!(Ip::from(text.parse::<IpAddr>().unwrap()).is_v6_link_local(), expected, "{text}");
        }
    }

    #[test]
    fn mapped_is_v4() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let plain: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(Ip::from(mapped), Ip::from(plain));
        assert!(Ip::from(plain).is_v4());
        assert!(!Ip::from("2001:db8::1".parse::<IpAddr>().unwrap()).is_v4());
    }

    #[test]
    fn loopback_is_what_connect_takes_for_it() {
        for text in ["127.0.0.1", "127.255.0.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert!(Ip::from(text.parse::<IpAddr>().unwrap()).is_loopback(), "{text}");
        }
        for text in ["10.0.0.1", "::2", "128.0.0.1", "fe80::1", "2001:db8::7f00:1"] {
            assert!(!Ip::from(text.parse::<IpAddr>().unwrap()).is_loopback(), "{text}");
        }
    }
}
