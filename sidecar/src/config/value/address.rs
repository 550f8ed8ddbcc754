//! Where to connect and listen: socket addresses, names with a port, URLs.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;

use super::super::model::DnsPort;
use super::name::is_word;
use super::port;
use crate::net::addrs::canonical;

/// Why a text is not an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum AddressError {
    #[error(
        "write an address and a port from 1 to 65535, such as 10.0.0.1:8080 or [::1]:8080; a name goes into dns"
    )]
    Address,
    #[error("write an address and a port, such as 0.0.0.0:8080 or [::]:8080; port 0 is any free one")]
    Listen,
    #[error("write a DNS name and a port from 1 to 65535, such as app.example.com:8080")]
    Dns,
    #[error("is an IP address; write it into address")]
    NoName,
    #[error("write a URL such as http://127.0.0.1:4317")]
    Url,
}

/// Reads where to connect. An IPv4-mapped address becomes IPv4.
pub(in crate::config) fn parse(text: &str) -> Result<SocketAddr, AddressError> {
    let address = text.parse().map(canonical).map_err(|_| AddressError::Address)?;
    if address.port() == 0 { Err(AddressError::Address) } else { Ok(address) }
}

/// Reads where to listen. Port 0 is any free one.
pub(in crate::config) fn parse_listen(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map(canonical).map_err(|_| AddressError::Listen)
}

/// Reads a DNS name, in any case, and a port.
pub(in crate::config) fn parse_dns(text: &str) -> Result<DnsPort, AddressError> {
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::Dns)?;
    let port = port::parse(port).map_err(|_| AddressError::Dns)?;
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(AddressError::NoName);
    }
    // RFC 1035, section 2.3.4; underscores are no host names', but resolvers take them. A final dot is the root.
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        label.len() <= 63 && is_word(label, |byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(AddressError::Dns);
    }
    Ok(DnsPort { name: host.to_ascii_lowercase(), port })
}

/// Reads an `http` or `https` URL.
pub(in crate::config) fn parse_url(text: &str) -> Result<Uri, AddressError> {
    let url: Uri = text.parse().map_err(|_| AddressError::Url)?;
    let http = matches!(url.scheme_str(), Some("http" | "https"));
    if http && url.host().is_some_and(|host| !host.is_empty()) { Ok(url) } else { Err(AddressError::Url) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_addresses() {
        let read = |text| parse(text).map(|address| address.to_string());
        assert_eq!(read("10.0.0.1:80").as_deref(), Ok("10.0.0.1:80"));
        assert_eq!(read("[fd00::1]:80").as_deref(), Ok("[fd00::1]:80"));
        assert_eq!(read("[::ffff:10.0.0.1]:80").as_deref(), Ok("10.0.0.1:80"));
        for bad in ["", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536", "example.com:80", "::1:80:x", ":80"] {
            assert_eq!(read(bad), Err(AddressError::Address), "{bad}");
        }
        assert!(parse_listen("[::]:0").is_ok());
        assert_eq!(parse_listen("8080"), Err(AddressError::Listen));
    }

    #[test]
    fn reads_names() {
        let read = |text| parse_dns(text).map(|dns| dns.to_string());
        assert_eq!(read("Reviews-v2.example.com:9080").as_deref(), Ok("reviews-v2.example.com:9080"));
        assert_eq!(read("app.:1").as_deref(), Ok("app.:1"));
        assert_eq!(read("10.0.0.1:80"), Err(AddressError::NoName));
        assert_eq!(read("[::1]:80"), Err(AddressError::NoName));
        let long = format!("{}:80", "a".repeat(64));
        for bad in ["", "app", "app:0", ":80", ".:80", "a..b:80", "-a:80", "a b:80", &long] {
            assert_eq!(read(bad), Err(AddressError::Dns), "{bad}");
        }
    }

    #[test]
    fn reads_urls() {
        assert!(parse_url("http://127.0.0.1:4317").is_ok());
        assert!(parse_url("https://collector.example.com/v1/traces").is_ok());
        for bad in ["", "127.0.0.1:4317", "/v1", "ftp://a", "http://", "http:///x"] {
            assert_eq!(parse_url(bad), Err(AddressError::Url), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ip: IpAddr, port in 1..=u16::MAX) {
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(parse(&address.to_string()), Ok(canonical(address)));
        }

        #[test]
        fn no_text_panics(text in "[a-z0-9.:\\[\\]/]*|.*") {
            let _ = parse(&text);
            let _ = parse_listen(&text);
            let _ = parse_dns(&text);
            let _ = parse_url(&text);
        }
    }
}
