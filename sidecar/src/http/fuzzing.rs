//! Fields that a proxy takes out, and a plan for any configuration (see `crate::fuzzing`).

use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE};
use hyper::http::uri::Uri;
use hyper::{Request, http::request};

pub(crate) use super::framing::fuzzing::framing;
use super::headers::{asks_to_upgrade, authority, for_version, has_clear_host, remove_hop_by_hop};
use super::{Plan, Version};
use crate::config::Config;

/// What is for one hop alone (RFC 9110 section 7.6.1).
const FOR_THIS_HOP: [&str; 6] =
    ["connection", "http2-settings", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
/// Fields that nobody can have taken out by naming them.
const KEPT: [&str; 1] = ["host"];

/// The first line is a request's target, the others are fields.
pub(crate) fn headers(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let fields: HeaderMap = lines.filter_map(field).take(100).collect();
    let upgrades: &[bool] = if asks_to_upgrade(&fields) { &[false, true] } else { &[false] };
    for upgrade in upgrades {
        hop_by_hop(&fields, *upgrade);
    }
    if let Ok(uri) = Uri::try_from(target) {
        let mut request = Request::new(());
        (*request.uri_mut(), *request.headers_mut()) = (uri, fields);
        next_hop(&request.into_parts().0);
    }
}

/// A plan can be made of each configuration that is valid.
pub(crate) fn plan(config: &Config) {
    let plan = Plan::new(config, None);
    drop(Plan::new(config, Some(&plan)));
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((line[..colon].try_into().ok()?, line[colon + 1..].trim_ascii().try_into().ok()?))
}

fn hop_by_hop(before: &HeaderMap, upgrade: bool) {
    let removed = |mut fields: HeaderMap| {
        remove_hop_by_hop(&mut fields, upgrade);
        fields
    };
    let after = removed(before.clone());
    assert_eq!(removed(after.clone()), after, "not idempotent");

    let lists = before.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    // What is no text is no name, and hides none of those beside it.
    let words = lists.flat_map(|list| list.split(|byte| *byte == b','));
    let named: Vec<String> =
        words.filter_map(|word| std::str::from_utf8(word.trim_ascii()).ok()).map(str::to_lowercase).collect();
    let is_for_this_hop = |name: &str| {
        FOR_THIS_HOP.contains(&name) || (named.iter().any(|one| one == name) && !KEPT.contains(&name))
    };
    for name in before.keys().filter(|name| **name != TE && !is_for_this_hop(name.as_str())) {
        let values = |fields: &HeaderMap| fields.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(values(&after), values(before), "{name} is not for this hop");
    }
    for name in after.keys() {
        let passed_on = upgrade && (*name == CONNECTION || *name == UPGRADE);
        assert!(before.contains_key(name), "{name} is new");
        assert!(*name == TE || passed_on || !is_for_this_hop(name.as_str()), "{name} is for this hop");
    }
    // RFC 9110 section 10.1.4.
    assert!(after.get_all(TE).iter().all(|value| value == "trailers"));
    assert_eq!(asks_to_upgrade(&after), upgrade);
    assert!(!upgrade || after.get_all(CONNECTION).iter().eq(["upgrade"]));
}

/// The next hop sees the host that we saw, once.
fn next_hop(parts: &request::Parts) {
    if !has_clear_host(parts) {
        return;
    }
    let seen = authority(parts);
    let mut http1 = parts.clone();
    for_version(Version::Http1, &mut http1, seen.as_ref());
    assert_eq!(http1.headers.get_all(HOST).iter().count(), 1);
    assert!(http1.uri.authority().is_none());
    assert_eq!(authority(&http1), seen);
    assert!(http1.headers.get_all("cookie").iter().count() <= 1);
    let mut http2 = parts.clone();
    for_version(Version::Http2, &mut http2, seen.as_ref());
    assert!([HOST, CONNECTION, UPGRADE].iter().all(|name| !http2.headers.contains_key(name)));
    assert_eq!(authority(&http2), seen);
    assert_eq!(http2.uri.query(), parts.uri.query());
}
