//! Where a redirect sends the client.

use super::hosts::without_port;
use super::rewrite;
use crate::config::route::{HttpMatch, Redirect};

/// What came: the scheme, `Host` or `:authority`, the port of the listener, path and query.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// With or without a port; `None` or empty: the client named none.
    pub host: Option<&'a str>,
    /// The port to which the client connected.
    pub port: u16,
    /// The path, without the query.
    pub path: &'a str,
    /// What comes after the `?`.
    pub query: Option<&'a str>,
}

/// The value of `Location`. `None`: neither the redirect nor the request names a host; the answer is 400.
///
/// The port is the redirect's; else, with another scheme written, that scheme's own; else the listener's. It is left
/// out if it is the scheme's own (HTTPRequestRedirectFilter, `port`).
pub fn location(redirect: &Redirect, matched: &HttpMatch, from: &Source<'_>) -> Option<String> {
    let scheme = redirect.scheme.as_deref().unwrap_or(from.scheme);
    let host = match &redirect.hostname {
        Some(host) => host,
        None => from.host.map(without_port).filter(|host| !host.is_empty())?,
    };
    let written = redirect.port.or(if redirect.scheme.is_some() { None } else { Some(from.port) });
    let port = written.filter(|port| Some(*port) != well_known(scheme));
    let target = rewrite::path_and_query(redirect.path.as_ref(), matched, from.path, from.query);
    Some(match port {
        Some(port) => format!("{scheme}://{host}:{port}{target}"),
        None => format!("{scheme}://{host}{target}"),
    })
}

fn well_known(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::route::{PathEdit, PathMatch};

    const NONE: Redirect = Redirect { scheme: None, hostname: None, path: None, port: None, status: 302 };

    fn to(redirect: &Redirect, from: &Source<'_>) -> Option<String> {
        let path = PathMatch::Prefix("/a".into());
        location(redirect, &HttpMatch { path, method: None, headers: vec![], query: vec![] }, from)
    }

    #[test]
    fn keeps_what_is_not_written() {
        let from = |scheme, port| Source {
            scheme,
            host: Some("example.org:8080"),
            port,
            path: "/a/b",
            query: Some("x"),
        };
        let scheme = |scheme: &str| Redirect { scheme: Some(scheme.into()), ..NONE };
        let hostname = Redirect { hostname: Some("example.com".into()), ..NONE };
        let port = |port| Redirect { port: Some(port), ..NONE };
        let path = Redirect { path: Some(PathEdit::Prefix("/c".into())), ..NONE };
        // The conformance tests' cases of HTTPRouteRedirectPort, ...Scheme, ...PortAndScheme and more.
        let cases = [
            (&NONE, from("http", 80), "http://example.org/a/b?x"),
            (&NONE, from("http", 8080), "http://example.org:8080/a/b?x"),
            (&hostname, from("http", 80), "http://example.com/a/b?x"),
            (&hostname, from("http", 8080), "http://example.com:8080/a/b?x"),
            (&hostname, from("https", 443), "https://example.com/a/b?x"),
            (&scheme("https"), from("http", 80), "https://example.org/a/b?x"),
            (&scheme("https"), from("http", 8080), "https://example.org/a/b?x"),
            (&scheme("http"), from("http", 8080), "http://example.org/a/b?x"),
            (&scheme("http"), from("https", 443), "http://example.org/a/b?x"),
            (&port(80), from("http", 8080), "http://example.org/a/b?x"),
            (&port(443), from("http", 80), "http://example.org:443/a/b?x"),
            (&port(8443), from("https", 443), "https://example.org:8443/a/b?x"),
            (&port(443), from("https", 8443), "https://example.org/a/b?x"),
            (
                &Redirect { port: Some(8443), ..scheme("https") },
                from("http", 80),
                "https://example.org:8443/a/b?x",
            ),
            (&path, from("http", 80), "http://example.org/c/b?x"),
        ];
        for (redirect, from, expected) in cases {
            assert_eq!(to(redirect, &from).as_deref(), Some(expected), "{redirect:?} {from:?}");
        }
    }

    #[test]
    fn needs_a_host() {
        let mut from = Source { scheme: "http", host: None, port: 80, path: "/", query: None };
        assert_eq!(to(&NONE, &from), None);
        from.host = Some("[::1]:80");
        assert_eq!(to(&NONE, &from).as_deref(), Some("http://[::1]/"));
    }
}
