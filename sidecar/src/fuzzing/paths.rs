//! Paths: their one form, and what rewrites make of it.

use crate::config::route::PathEdit;
use crate::policy::path::normalise;
use crate::route::{redirect, rewrite};

/// A path in its one form keeps it, has no dot segment in any reading, and names what it named before. The first line is the path, a
/// second and a third are a prefix and what a rewrite puts in its place.
pub fn paths(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let path = lines.next().unwrap_or_default();
    for allow in [false, true] {
        if let Ok(normal) = normalise(path, allow) {
            normal_form(path, &normal, allow);
            if let (Some(prefix), Some(replacement)) = (lines.clone().next(), lines.clone().nth(1)) {
                rewritten(&normal, prefix, replacement);
            }
        }
    }
    if let (Ok(strict), Ok(lenient)) = (normalise(path, false), normalise(path, true)) {
        assert_eq!(strict, lenient, "what is allowed beside it changes a path");
    }
}

fn normal_form(path: &str, normal: &str, allow: bool) {
    assert_eq!(normalise(normal, allow).as_deref(), Ok(normal), "not idempotent");
    if path == "*" {
        return assert_eq!(normal, "*");
    }
    assert!(normal.starts_with('/') && !normal.contains("//"), "{normal:?}");
    assert!(
        normal.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#\"<>^`{|}".contains(&byte)),
        "{normal:?}"
    );
    assert!(normal.parse::<hyper::Uri>().is_ok_and(|uri| uri.path() == normal), "{normal:?}");
    // Servers that decode see the same segments, and none that leads up; also those that take an encoded slash or a backslash for a
    // slash, and those that cut parameters off.
    let decoded = decode(normal.as_bytes());
    if !allow {
        assert_eq!(
            decoded.iter().filter(|byte| matches!(byte, b'/' | b'\\')).count(),
            normal.matches('/').count()
        );
    }
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(name != b"." && name != b"..", "{normal:?} has a dot segment");
    }
    assert!(!decoded.contains(&0));
    assert_eq!(resolve(normal), resolve(path), "{normal:?} is another path than {path:?}");
}

/// The segments that a path leads to, decoded, and whether it ends in a slash (RFC 3986, section 5.2.4).
fn resolve(path: &str) -> (Vec<Vec<u8>>, bool) {
    let (mut kept, mut directory) = (Vec::new(), true);
    for segment in path.split('/').map(|segment| decode(segment.as_bytes())) {
        directory = matches!(&segment[..], b"" | b"." | b"..");
        match &segment[..] {
            b".." => drop(kept.pop()),
            b"" | b"." => {}
            _ => kept.push(segment),
        }
    }
    (kept, directory)
}

fn decode(mut bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let [first, rest @ ..] = bytes {
        let escape = rest.get(..2).filter(|_| *first == b'%').and_then(|digits| str::from_utf8(digits).ok());
        let escaped = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(*first));
        bytes = if escaped.is_some() { &rest[2..] } else { rest };
    }
    decoded
}

/// A rewrite of a path in its one form is an absolute path and a target, and so is what a redirect says.
fn rewritten(path: &str, prefix: &str, replacement: &str) {
    let Some((matched, edit)) = super::config::prefix_edit(prefix, replacement) else { return };
    // How a route matches: whole elements (Gateway API, PathMatchPathPrefix).
    let prefix = rewrite::prefix_of(&matched);
    let rest = if prefix == "/" { Some(path) } else { path.strip_prefix(prefix) };
    if path == "*" || !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return;
    }
    let target = rewrite::path_and_query(Some(&edit), &matched, path, Some("q=/../1"));
    assert!(target.starts_with('/'), "{target:?}");
    assert!(target.parse::<hyper::Uri>().is_ok_and(|uri| uri.query() == Some("q=/../1")), "{target:?}");
    let new = rewrite::path(&edit, prefix, path);
    if normalise(replacement, true).is_ok_and(|normal| normal == replacement) {
        assert_eq!(
            normalise(&new, true).as_deref(),
            Ok(&*new),
            "the rewrite of {path:?} has not its one form"
        );
    }
    let to = redirect::Source { scheme: "http", host: Some("a:8080"), port: 8080, path, query: None };
    let from = crate::config::route::Redirect {
        scheme: None,
        hostname: None,
        path: Some(PathEdit::clone(&edit)),
        port: None,
        status: 302,
    };
    let location = redirect::location(&from, &matched, &to).unwrap_or_default();
    let same = |uri: hyper::Uri| uri.host() == Some("a") && uri.port_u16() == Some(8080) && uri.path() == new;
    assert!(location.parse().is_ok_and(same), "{location:?}");
}
