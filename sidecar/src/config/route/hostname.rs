//! Hosts that routes are for.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::config::value::name;

/// A host name, or all under one. Displays as it is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hostname {
    /// This name, in lower case.
    Exact(String),
    /// Names that end so, such as `.example.com`, with at least one label before.
    Wildcard(String),
}

/// Why a text is not a host name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum HostnameError {
    #[error("write a host name in lower case, such as example.com or *.example.com, without a port")]
    Malformed,
    #[error("write a host name in lower case, such as example.com, without a wildcard or port")]
    Precise,
    #[error("is an IP address; write a host name, or leave it out for all hosts")]
    Address,
}

/// Reads a host name, or `*.` and one.
pub(in crate::config) fn parse(text: &str) -> Result<Hostname, HostnameError> {
    match text.strip_prefix('*') {
        None => parse_precise(text).map(Hostname::Exact).map_err(|error| match error {
            HostnameError::Precise => HostnameError::Malformed,
            error => error,
        }),
        Some(suffix) => {
            let parent = suffix.strip_prefix('.').ok_or(HostnameError::Malformed)?;
            name::parse(parent).map_err(|_| HostnameError::Malformed)?;
            Ok(Hostname::Wildcard(suffix.to_owned()))
        }
    }
}

/// Reads a host name without a wildcard.
pub(in crate::config) fn parse_precise(text: &str) -> Result<String, HostnameError> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(HostnameError::Address);
    }
    name::parse(text).map_err(|_| HostnameError::Precise)
}

impl Hostname {
    /// True if `host`, without a port, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Wildcard(suffix) => host.len().checked_sub(suffix.len()).is_some_and(|label| {
                label > 0 && host.as_bytes()[label..].eq_ignore_ascii_case(suffix.as_bytes())
            }),
        }
    }

    /// Orders host names: the greater one goes before (Gateway API: an exact name, then the longer).
    pub fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Exact(name) => (true, name.len()),
            Self::Wildcard(suffix) => (false, suffix.len() + 1),
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl Serialize for Hostname {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label_or_more() {
        let wildcard = parse("*.example.com").unwrap();
        for host in ["a.example.com", "a.b.example.com", "A.EXAMPLE.com"] {
            assert!(wildcard.matches(host), "{host}");
        }
        for host in ["example.com", ".example.com", "aexample.com", "a.example.org", "", "éexample.com"] {
            assert!(!wildcard.matches(host), "{host}");
        }
        let exact = parse("example.com").unwrap();
        assert!(exact.matches("Example.com") && !exact.matches("a.example.com"));
        assert_eq!((wildcard.to_string(), exact.to_string()), ("*.example.com".into(), "example.com".into()));
    }

    #[test]
    fn says_what_to_write() {
        for bad in ["", "*", "*.", "a.*.com", "*a.com", "A.com", "a.com:80", "**.a", "a_b"] {
            assert_eq!(parse(bad), Err(HostnameError::Malformed), "{bad}");
        }
        assert_eq!(parse("10.0.0.1"), Err(HostnameError::Address));
        assert_eq!(parse_precise("*.a.com"), Err(HostnameError::Precise));
    }
}
