//! What a request is hashed by.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::COOKIE;

use super::hash::hash;
use crate::config::traffic::HashKey;

/// The hash of a request's key. `None`: the request has none.
pub fn key_of(key: &HashKey, headers: &HeaderMap, client: IpAddr) -> Option<u64> {
    match key {
        HashKey::Header(name) => headers.get(name).map(|value| hash(value.as_bytes())),
        HashKey::Cookie(name) => cookie(headers, name).map(hash),
        HashKey::Source => Some(match client {
            IpAddr::V4(address) => hash(&address.octets()),
            IpAddr::V6(address) => hash(&address.octets()),
        }),
    }
}

/// The value of the first cookie of this name (RFC 6265, section 4.2.1).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_headers_cookies_and_addresses() {
        let client: IpAddr = "10.0.0.1".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "jo".parse().unwrap());
        headers.append("cookie", "session2=no; a=b".parse().unwrap());
        headers.append("cookie", "c=d;  session=s=1 ; session=2".parse().unwrap());
        let of = |key: HashKey| key_of(&key, &headers, client);
        assert_eq!(of(HashKey::Header("x-user".parse().unwrap())), Some(hash(b"jo")));
        assert_eq!(of(HashKey::Header("x-none".parse().unwrap())), None);
        assert_eq!(of(HashKey::Cookie("session".to_owned())), Some(hash(b"s=1")));
        assert_eq!(of(HashKey::Cookie("Session".to_owned())), None);
        assert_eq!(of(HashKey::Source), Some(hash(&[10, 0, 0, 1])));
    }
}
