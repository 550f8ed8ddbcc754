//! Changes of paths.

use std::borrow::Cow;

use crate::config::route::{HttpMatch, PathEdit, PathMatch};

/// The path after a change. `prefix` is what of it matched, without a final slash but for `/` (see [`prefix_of`]).
pub fn path<'a>(edit: &'a PathEdit, prefix: &str, path: &'a str) -> Cow<'a, str> {
    let replacement = match edit {
        PathEdit::Full(full) => return Cow::Borrowed(full),
        // `OPTIONS *` (RFC 9110, section 9.3.7).
        PathEdit::Prefix(_) if !path.starts_with('/') => return Cow::Borrowed(path),
        PathEdit::Prefix(replacement) => replacement.strip_suffix('/').unwrap_or(replacement),
    };
    let rest = if prefix == "/" { path } else { path.strip_prefix(prefix).unwrap_or(path) };
    match (replacement, rest) {
        ("", "") => Cow::Borrowed("/"),
        ("", rest) if rest.starts_with('/') => Cow::Borrowed(rest),
        // Of `/` nothing is left: the path named no element under the prefix.
        (replacement, "/") if prefix == "/" => Cow::Borrowed(replacement),
        (replacement, rest) => Cow::Owned(format!("{replacement}{rest}")),
    }
}

/// The path and query after a change, as a request's target.
pub fn path_and_query(
    edit: Option<&PathEdit>,
    matched: &HttpMatch,
    old: &str,
    query: Option<&str>,
) -> String {
    let path = edit.map_or(Cow::Borrowed(old), |edit| path(edit, prefix_of(matched), old));
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    }
}

/// What of a path matched, for [`PathEdit::Prefix`]; that stands with prefixes alone.
pub fn prefix_of(matched: &HttpMatch) -> &str {
    match &matched.path {
        PathMatch::Prefix(prefix) => prefix,
        PathMatch::Exact(_) | PathMatch::Regex(_) => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the Gateway API's `HTTPPathModifier`, with prefixes as they are kept, and a few more.
    #[test]
    fn replaces_prefixes_by_elements() {
        let cases = [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
            ("/", "/", "/xyz", "/xyz"),
            ("/", "/", "/", "/"),
            ("/foo", "/", "", "/foo"),
            ("/foo/foo", "/foo", "/a", "/a/foo"),
            ("*", "/", "/xyz", "*"),
        ];
        for (old, prefix, replacement, new) in cases {
            let edit = PathEdit::Prefix(replacement.to_owned());
            assert_eq!(path(&edit, prefix, old), new, "{old} {prefix} {replacement:?}");
        }
        assert_eq!(path(&PathEdit::Full("/x".into()), "/foo", "/foo/bar"), "/x");
    }

    #[test]
    fn keeps_the_query() {
        let path = PathMatch::Prefix("/a".into());
        let matched = HttpMatch { path, method: None, headers: vec![], query: vec![] };
        let edit = PathEdit::Prefix("/b".into());
        assert_eq!(path_and_query(Some(&edit), &matched, "/a/c", Some("x=1")), "/b/c?x=1");
        assert_eq!(path_and_query(None, &matched, "/a/c", None), "/a/c");
        assert_eq!(path_and_query(None, &matched, "/a/c", Some("")), "/a/c?");
    }
}
