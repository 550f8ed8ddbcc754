//! Texts with a wildcard at one end, as rules write them.

use std::fmt;

use serde::{Serialize, Serializer};

/// What a text must look like. Displays as it is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pattern {
    /// `*`: anything that is there.
    Any,
    /// `TEXT`.
    Exact(String),
    /// `TEXT*`.
    Prefix(String),
    /// `*TEXT`.
    Suffix(String),
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum PatternError {
    #[error("is empty; write a text, PREFIX*, *SUFFIX, or * for any")]
    Empty,
    #[error("has a * that is neither first nor last; write a text, PREFIX*, *SUFFIX, or * for any")]
    Wildcard,
    #[error("write a path that begins with / or *, without query")]
    Path,
    #[error("is never seen in a path, since // and dot segments are removed first; leave it out")]
    NeverSeen,
    #[error("write a host without port, such as api.example.com or *.example.com")]
    Host,
}

/// Reads a pattern.
pub(super) fn parse(text: &str) -> Result<Pattern, PatternError> {
    let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text.is_empty() => return Err(PatternError::Empty),
        _ if text == "*" => Pattern::Any,
        (None, None) => Pattern::Exact(text.to_owned()),
        (None, Some(prefix)) => Pattern::Prefix(prefix.to_owned()),
        (Some(suffix), None) => Pattern::Suffix(suffix.to_owned()),
        (Some(_), Some(_)) => return Err(PatternError::Wildcard),
    };
    if pattern.text().contains('*') { Err(PatternError::Wildcard) } else { Ok(pattern) }
}

/// Reads a pattern of normalised paths.
pub(super) fn parse_path(text: &str) -> Result<Pattern, PatternError> {
    let pattern = parse(text)?;
    if !text.starts_with(['/', '*']) || text.contains(['?', '#']) {
        return Err(PatternError::Path);
    }
    // Part of a segment may be cut off by the wildcard, so only whole dot segments cannot be.
    let dots = pattern.text().contains("/./") || pattern.text().contains("/../");
    if dots || pattern.text().contains("//") { Err(PatternError::NeverSeen) } else { Ok(pattern) }
}

/// Reads a pattern of hosts, in any case.
pub(super) fn parse_host(text: &str) -> Result<Pattern, PatternError> {
    let host = text.to_ascii_lowercase();
    let (name, bracketed) = (host.trim_matches('*'), host.starts_with('['));
    if name.contains('/') || (name.contains(':') && !bracketed) || name.ends_with("]:") {
        return Err(PatternError::Host);
    }
    parse(&host)
}

// === impl Pattern ===

impl Pattern {
    /// True if the text looks like this.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_at_one_end() {
        assert_eq!(parse("*"), Ok(Pattern::Any));
        assert!(
            parse("/api/*").is_ok_and(|p| p.matches("/api/") && p.matches("/api/x") && !p.matches("/api"))
        );
        assert!(parse("*.json").is_ok_and(|p| p.matches("/a.json") && !p.matches("/a.jsonx")));
        assert!(parse("/a").is_ok_and(|p| p.matches("/a") && !p.matches("/a/") && !p.matches("/A")));
        for bad in ["*a*", "a*b", "**", "a**"] {
            assert_eq!(parse(bad), Err(PatternError::Wildcard), "{bad}");
        }
        assert_eq!(parse(""), Err(PatternError::Empty));
    }

    #[test]
    fn paths_and_hosts_are_what_requests_can_have() {
        assert_eq!(parse_path("api"), Err(PatternError::Path));
        assert_eq!(parse_path("/api?x=1"), Err(PatternError::Path));
        assert_eq!(parse_path("/a/../b"), Err(PatternError::NeverSeen));
        assert_eq!(parse_path("//a*"), Err(PatternError::NeverSeen));
        assert_eq!(parse_host("*.Example.com"), Ok(Pattern::Suffix(".example.com".to_owned())));
        assert_eq!(parse_host("a:80"), Err(PatternError::Host));
        assert_eq!(parse_host("[::1]"), Ok(Pattern::Exact("[::1]".to_owned())));
    }
}
