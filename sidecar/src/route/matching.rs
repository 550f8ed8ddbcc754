//! Whether a request has what a match asks for.

use std::borrow::Cow;

use http::HeaderMap;

use super::set::RequestParts;
use crate::config::route::{FieldMatch, HttpMatch, PathMatch, TextMatch};

/// True if the request has all that is asked for.
pub(super) fn matches(wanted: &HttpMatch, request: &RequestParts<'_>) -> bool {
    wanted.method.as_ref().is_none_or(|method| method == request.method)
        && path(&wanted.path, request.path)
        && wanted.headers.iter().all(|field| header(field, request.headers))
        && wanted.query.iter().all(|field| parameter(field, request.query.unwrap_or_default()))
}

fn path(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(exact) => exact == path,
        PathMatch::Prefix(prefix) => is_under(path, prefix),
        PathMatch::Regex(pattern) => pattern.matches(path),
    }
}

/// True if `path` is `prefix` or under it, by whole elements. The prefix has no final slash, but for `/`.
fn is_under(path: &str, prefix: &str) -> bool {
    if prefix == "/" {
        return true;
    }
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn header(wanted: &FieldMatch, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(wanted.name.as_str()).iter();
    let Some(first) = values.next() else { return false };
    let Ok(first) = first.to_str() else { return false };
    let mut joined = Cow::Borrowed(first);
    // Several fields of a name mean the same as one with a list (RFC 9110, section 5.2).
    for value in values {
        let Ok(value) = value.to_str() else { return false };
        let joined = joined.to_mut();
        joined.push_str(", ");
        joined.push_str(value);
    }
    text(&wanted.value, &joined)
}

/// Of several parameters of the name, the first counts.
fn parameter(wanted: &FieldMatch, query: &str) -> bool {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| *name == wanted.name);
    found.is_some_and(|(_, value)| text(&wanted.value, &value))
}

fn text(wanted: &TextMatch, found: &str) -> bool {
    match wanted {
        TextMatch::Exact(exact) => exact == found,
        TextMatch::Regex(pattern) => pattern.matches(found),
    }
}
