//! Which match comes first when several fit (HTTPRouteRule, `matches`).

use std::cmp::Ordering;

use crate::config::route::{Hostname, HttpMatch, PathMatch};

/// The sort of a path's match, and how much of the path it says; the greater one goes before.
type PathRank = (u8, usize);

/// Orders two matches, each with the host name of its route: what comes first is `Less`.
pub(super) fn compare(a: (Option<&Hostname>, &HttpMatch), b: (Option<&Hostname>, &HttpMatch)) -> Ordering {
    let rank = |(host, wanted): (Option<&Hostname>, &HttpMatch)| {
        let fields = (wanted.method.is_some(), wanted.headers.len(), wanted.query.len());
        (host.map(Hostname::specificity), path(&wanted.path), fields)
    };
    rank(b).cmp(&rank(a))
}

/// Exact, then the longest prefix, then the longest expression.
fn path(wanted: &PathMatch) -> PathRank {
    match wanted {
        PathMatch::Exact(path) => (2, path.len()),
        PathMatch::Prefix(path) => (1, path.len()),
        PathMatch::Regex(pattern) => (0, pattern.as_str().len()),
    }
}
