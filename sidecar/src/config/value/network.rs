//! Networks: `10.0.0.0/8`, `fd00::/8`.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::is_digits;

/// Why a text is not a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("write a network such as 10.0.0.0/8 or fd00::/8")]
    Malformed,
    #[error("a network needs a prefix length; for this one address write {0}/{1}")]
    NoPrefix(IpAddr, u8),
    #[error("the prefix length of an IPv{version} network is 0 to {max}")]
    Prefix { version: u8, max: u8 },
    #[error("the prefix length of an IPv4-mapped network is 96 to 128; better write the IPv4 network itself")]
    MappedPrefix,
}

/// The bits before the IPv4 address in an IPv4-mapped one (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Reads a network. Host bits are dropped, as ip(8) and Istio do; an IPv4-mapped one becomes IPv4.
pub(crate) fn parse(text: &str) -> Result<IpNet, NetworkError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Malformed)?;
    let (version, max) = if address.is_ipv4() { (4, 32) } else { (6, 128) };
    let prefix = prefix.ok_or(NetworkError::NoPrefix(address, max))?;
    let wrong = NetworkError::Prefix { version, max };
    if !is_digits(prefix) {
        return Err(wrong);
    }
    let prefix: u8 = prefix.parse().map_err(|_| wrong)?;
    let network = match address {
        IpAddr::V4(address) => Ipv4Net::new(address, prefix).map_err(|_| wrong)?.into(),
        IpAddr::V6(address) => unmap(address, prefix, wrong)?,
    };
    Ok(network.trunc())
}

fn unmap(address: Ipv6Addr, prefix: u8, wrong: NetworkError) -> Result<IpNet, NetworkError> {
    let network = Ipv6Net::new(address, prefix).map_err(|_| wrong)?;
    let Some(v4) = address.to_ipv4_mapped() else { return Ok(network.into()) };
    let prefix = prefix.checked_sub(MAPPED_BITS).ok_or(NetworkError::MappedPrefix)?;
    Ok(Ipv4Net::new(v4, prefix).map_err(|_| wrong)?.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, String> {
        parse(text).map(|network| network.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_networks() {
        assert_eq!(read("10.0.0.0/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(read("10.1.2.3/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(read("::/0").as_deref(), Ok("::/0"));
        assert_eq!(read("2001:db8::1/32").as_deref(), Ok("2001:db8::/32"));
        assert_eq!(read("::ffff:10.1.2.3/104").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(read("::ffff:0:0/96").as_deref(), Ok("0.0.0.0/0"));
    }

    #[test]
    fn says_what_to_write() {
        let why = |text| read(text).err().unwrap_or_default();
        assert_eq!(why("10.0.0.0/33"), "the prefix length of an IPv4 network is 0 to 32");
        assert_eq!(why("fd00::/129"), "the prefix length of an IPv6 network is 0 to 128");
        assert!(why("10.0.0.1").ends_with("write 10.0.0.1/32"));
        assert!(why("::1").ends_with("write ::1/128"));
        assert!(why("::ffff:10.0.0.0/8").contains("IPv4-mapped"));
        for bad in ["10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/256", "10.0.0.0/8/8"] {
            assert_eq!(why(bad), "the prefix length of an IPv4 network is 0 to 32", "{bad}");
        }
        for bad in ["", "/8", "10.0.0/8", "example.com/8", "fe80::1%eth0/64", " 10.0.0.0/8"] {
            assert_eq!(parse(bad), Err(NetworkError::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(address: IpAddr, prefix: u8) {
            let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
            let lengths = if address.is_ipv4() { 0..=32 } else if mapped { 96..=128 } else { 0..=128 };
            let network = parse(&format!("{address}/{prefix}"));
            prop_assert_eq!(network.is_ok(), lengths.contains(&prefix));
            if let Ok(network) = network {
                prop_assert!(network.contains(&address.to_canonical()));
                prop_assert_eq!(network.addr(), network.network());
                prop_assert_eq!(parse(&network.to_string()), Ok(network));
            }
        }

        #[test]
        fn the_mapped_form_is_the_same_network(address: std::net::Ipv4Addr, prefix in 0..=32_u8) {
            let mapped = format!("{}/{}", address.to_ipv6_mapped(), prefix + 96);
            prop_assert_eq!(parse(&mapped), parse(&format!("{address}/{prefix}")));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:./]*|.*") {
            let _ = parse(&text);
        }
    }
}
