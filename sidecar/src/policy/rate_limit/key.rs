//! Which bucket a request belongs to.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use crate::config::traffic::RateLimitKey;

/// The key of a request's bucket. `claim` finds a claim of the client's token. Requests that lack what tells others
/// apart share one bucket, whose key is empty; so do all where nothing does.
pub fn key_of<'a>(
    key: Option<&RateLimitKey>,
    headers: &'a HeaderMap,
    client: IpAddr,
    claim: impl FnOnce(&str) -> Option<String>,
) -> Cow<'a, [u8]> {
    match key {
        None => Cow::Borrowed(&[]),
        Some(RateLimitKey::Header(name)) => {
            Cow::Borrowed(headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default())
        }
        Some(RateLimitKey::Claim(name)) => Cow::Owned(claim(name).unwrap_or_default().into_bytes()),
        Some(RateLimitKey::Source) => Cow::Owned(match client {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "jo".parse().unwrap());
        let claim = |name: &str| (name == "sub").then(|| "ann".to_owned());
        let of = |key: Option<RateLimitKey>| {
            key_of(key.as_ref(), &headers, IpAddr::from([10, 0, 0, 1]), claim).into_owned()
        };
        let header = |name: &str| Some(RateLimitKey::Header(name.parse().unwrap()));
        assert_eq!(of(None), b"");
        assert_eq!(of(header("x-user")), b"jo");
        assert_eq!(of(header("x-none")), b"");
        assert_eq!(of(Some(RateLimitKey::Claim("sub".to_owned()))), b"ann");
        assert_eq!(of(Some(RateLimitKey::Claim("aud".to_owned()))), b"");
        assert_eq!(of(Some(RateLimitKey::Source)), [10, 0, 0, 1]);
    }
}
