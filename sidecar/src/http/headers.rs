//! Fields that a proxy takes out, puts in and changes.

use std::net::IpAddr;

use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::http::request;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Uri, Version};

use super::Version as Spoken;
use crate::config::Forwarded;

/// RFC 9110 section 7.6.1, and what older proxies sent.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const REASON: HeaderName = HeaderName::from_static("x-sidecar-reason");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// RFC 7239, and what some servers read besides.
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What its value says (RFC 9110 section 10.1.4).
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Takes out what is meant for this hop alone (RFC 9110 section 7.6.1). `upgrade`: another protocol is asked for or agreed on,
/// which the next hop is to hear.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    if !headers.contains_key(CONNECTION)
        && !headers.contains_key(TE)
        && !headers.contains_key(TRANSFER_ENCODING)
    {
        remove_plain(headers, upgrade);
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // What a request is routed and framed by is no client's to take out.
        .filter(|name| *name != HOST && *name != UPGRADE && *name != TE)
        .collect();
    let wants_trailers = headers
        .get_all(TE)
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"trailers"));
    for name in named {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(TE);
    if wants_trailers {
        headers.insert(TE, TRAILERS);
    }
    remove_plain(headers, upgrade);
}

fn remove_plain(headers: &mut HeaderMap, upgrade: bool) {
    for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(UPGRADE);
    }
}

/// The client asks for another protocol (RFC 9110 section 7.8).
pub(super) fn asks_to_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// An upgrade to HTTP/2 would carry requests past all that is decided about them. It is deprecated (RFC 9113 section 3.1), and not
/// passed on.
pub(super) fn asks_for_h2c(headers: &HeaderMap) -> bool {
    let words =
        headers.get_all(UPGRADE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.map(<[u8]>::trim_ascii).any(|word| word.len() >= 3 && word[..3].eq_ignore_ascii_case(b"h2c"))
}

/// One host, without a user, or none: what routes and policies see is what the upstream sees.
pub(super) fn has_clear_host(parts: &request::Parts) -> bool {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let first = hosts.next();
    let clear = |host: &[u8]| !host.contains(&b'@') && (host.is_empty() || Authority::try_from(host).is_ok());
    hosts.next().is_none()
        && first.is_none_or(|host| clear(host.as_bytes()))
        && parts.uri.authority().is_none_or(|authority| !authority.as_str().contains('@'))
}

/// The host and port that a request is for: of its target, else its Host (RFC 9112 section 3.2).
pub(super) fn authority(parts: &request::Parts) -> Option<Authority> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.clone());
    }
    let host = parts.headers.get(HOST)?;
    Authority::try_from(host.as_bytes()).ok()
}

/// Takes out of a success of CONNECT what is for this hop, and what says of a body that there is none of (RFC 9110
/// section 9.3.6).
pub(super) fn connected(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers, false);
    headers.remove(hyper::header::CONTENT_LENGTH);
}

/// Makes a request one for an upstream that speaks this.
pub(super) fn for_version(version: Spoken, parts: &mut request::Parts, authority: Option<&Authority>) {
    match version {
        Spoken::Http1 => for_http1(parts, authority),
        Spoken::Http2 => for_http2(parts, authority),
    }
}

/// Makes a request one for an HTTP/1.1 upstream: its target is a path, its host a field.
fn for_http1(parts: &mut request::Parts, authority: Option<&Authority>) {
    parts.version = Version::HTTP_11;
    match authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        Some(host) => {
            parts.headers.insert(HOST, host);
        }
        // Of HTTP/1.0; an empty one is valid (RFC 9112 section 3.2).
        None => {
            parts.headers.entry(HOST).or_insert(HeaderValue::from_static(""));
        }
    }
    // The target of CONNECT is a host and port (RFC 9112 section 3.2.3).
    if parts.uri.authority().is_some() && parts.method != Method::CONNECT {
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(Uri::default, Uri::from);
    }
    // Cookies that HTTP/2 split are one field again (RFC 9113 section 8.2.3).
    let cookies: Vec<&[u8]> =
        parts.headers.get_all(hyper::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        parts.headers.insert(hyper::header::COOKIE, joined);
    }
}

/// Makes a request one for an HTTP/2 upstream: its host is a part of its target.
fn for_http2(parts: &mut request::Parts, authority: Option<&Authority>) {
    parts.version = Version::HTTP_2;
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = Uri::builder().scheme(Scheme::HTTP).path_and_query(path);
    if let Some(authority) = authority {
        uri = uri.authority(authority.clone());
    }
    if let Ok(uri) = uri.build() {
        parts.uri = uri;
    }
    for name in [HOST, UPGRADE, CONNECTION] {
        parts.headers.remove(name);
    }
}

/// Says who asked, as it is configured.
pub(super) fn forwarded(
    how: Forwarded,
    headers: &mut HeaderMap,
    client: IpAddr,
    authority: Option<&Authority>,
) {
    if how == Forwarded::Keep {
        return;
    }
    if how != Forwarded::Append {
        for name in [FORWARDED, FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, FORWARDED_PORT] {
            headers.remove(name);
        }
    }
    if how == Forwarded::Remove {
        return;
    }
    let before = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let list =
        before.map(str::to_owned).chain([client.to_canonical().to_string()]).collect::<Vec<_>>().join(", ");
    if let Ok(list) = HeaderValue::from_str(&list) {
        headers.insert(FORWARDED_FOR, list);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
}

/// Adds this proxy to those that a message went through (RFC 9110 section 7.6.3). `version`: what it was received in.
pub(super) fn via(headers: &mut HeaderMap, version: Version, name: &str) {
    let version = match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    if let Ok(value) = HeaderValue::try_from(format!("{version} {name}")) {
        headers.append(VIA, value);
    }
}

/// Gives a request a name and a trace where it has none (<https://www.w3.org/TR/trace-context/>, section 3.2).
pub(super) fn identify(headers: &mut HeaderMap) {
    if !headers.contains_key(REQUEST_ID) {
        // A random UUID (RFC 9562 section 5.4).
        let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{bits:032x}");
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        if let Ok(id) = HeaderValue::try_from(id) {
            headers.insert(REQUEST_ID, id);
        }
    }
    if !headers.contains_key(TRACEPARENT) {
        // Not sampled: nobody was asked to record it.
        let trace = format!("00-{:032x}-{:016x}-00", fastrand::u128(1..), fastrand::u64(1..));
        if let Ok(trace) = HeaderValue::try_from(trace) {
            headers.insert(TRACEPARENT, trace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn what_is_for_this_hop_goes_no_further() {
        let mut headers = map(&[
            ("connection", "close, X-Secret ,te, host"),
            ("host", "a"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "deflate, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut headers, false);
        assert_eq!(headers, map(&[("host", "a"), ("te", "trailers"), ("x-kept", "1")]));
    }

    #[test]
    fn what_is_no_name_hides_no_name() {
        let mut headers = map(&[("host", "a"), ("x-secret", "1")]);
        headers.insert(CONNECTION, HeaderValue::from_bytes(b"\xff, x-secret").unwrap());
        remove_hop_by_hop(&mut headers, false);
        assert_eq!(headers, map(&[("host", "a")]));
    }

    #[test]
    fn an_upgrade_is_passed_on() {
        let mut headers =
            map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("keep-alive", "1")]);
        assert!(asks_to_upgrade(&headers));
        remove_hop_by_hop(&mut headers, true);
        assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn who_asked_is_said_as_configured() {
        let sent = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=x")];
        let cases: [(Forwarded, &[(&str, &str)]); 4] = [
            (
                Forwarded::Append,
                &[
                    ("x-forwarded-for", "192.0.2.1, 10.0.0.1"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "a"),
                    ("forwarded", "for=x"),
                ],
            ),
            (
                Forwarded::Replace,
                &[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "a")],
            ),
            (Forwarded::Keep, &sent),
            (Forwarded::Remove, &[]),
        ];
        let host = Authority::from_static("a");
        for (how, expected) in cases {
            let mut headers = map(&sent);
            forwarded(how, &mut headers, "::ffff:10.0.0.1".parse().unwrap(), Some(&host));
            assert_eq!(headers, map(expected), "{how:?}");
        }
    }

    #[test]
    fn proxies_are_named_in_their_order() {
        let mut headers = map(&[("via", "1.0 first")]);
        via(&mut headers, Version::HTTP_2, "edge");
        via(&mut headers, Version::HTTP_11, "edge:80");
        let names: Vec<_> = headers.get_all(VIA).iter().collect();
        assert_eq!(names, ["1.0 first", "2 edge", "1.1 edge:80"]);
    }

    #[test]
    fn a_request_gets_a_name_and_a_trace() {
        let mut headers = map(&[]);
        identify(&mut headers);
        let id = headers[&REQUEST_ID].to_str().unwrap().to_owned();
        assert_eq!((id.len(), &id[14..15], id.matches('-').count()), (36, "4", 4), "{id}");
        let trace = headers[&TRACEPARENT].to_str().unwrap().to_owned();
        assert_eq!((trace.len(), &trace[..3], &trace[52..]), (55, "00-", "-00"), "{trace}");
        identify(&mut headers);
        assert_eq!(headers[&REQUEST_ID], id);
        assert_eq!(headers[&TRACEPARENT], trace);
    }
}
