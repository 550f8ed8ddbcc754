//! Cross-origin requests (Fetch standard, "CORS protocol").

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::route::{Cors, OriginMatch};

/// The header fields of the answer 204 to a preflight. `None`: the request is no preflight and goes its way.
///
/// If the origin is not allowed, there are no fields by which a browser would go on.
pub fn preflight(cors: &Cors, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
    let asked = request.get(ACCESS_CONTROL_REQUEST_METHOD);
    let (Some(origin), Some(asked), &Method::OPTIONS) = (request.get(ORIGIN), asked, method) else {
        return None;
    };
    let mut answer = HeaderMap::new();
    if !share(cors, origin, &mut answer) {
        return Some(answer);
    }
    put(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, list(cors, &cors.allow_methods, Some(asked)));
    let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
    put(&mut answer, ACCESS_CONTROL_ALLOW_HEADERS, list(cors, &cors.allow_headers, asked));
    put(&mut answer, ACCESS_CONTROL_MAX_AGE, Some(HeaderValue::from(cors.max_age.as_secs())));
    Some(answer)
}

/// Adds to the response to a request from `origin` what lets a script read it, if that origin is allowed.
pub fn response(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    let Some(origin) = origin else { return };
    let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    let all = HeaderValue::from_str(&names.join(", ")).ok();
    if share(cors, origin, headers) {
        put(headers, ACCESS_CONTROL_EXPOSE_HEADERS, list(cors, &cors.expose_headers, all.as_ref()));
    }
}

/// Says that this origin may have the response. False: it may not.
fn share(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) -> bool {
    let Ok(text) = origin.to_str() else { return false };
    if !cors.allow_origins.iter().any(|allowed| allows(allowed, text)) {
        return false;
    }
    if cors.allow_origins.contains(&OriginMatch::Any) && !cors.allow_credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        // Caches must not give it to another origin.
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    if cors.allow_credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

/// The value of a list. With credentials, `*` would be taken literally: then it is `asked`, all that is asked about.
fn list(cors: &Cors, words: &[String], asked: Option<&HeaderValue>) -> Option<HeaderValue> {
    match words {
        [] => None,
        [all] if all == "*" && cors.allow_credentials => asked.cloned(),
        words => HeaderValue::from_str(&words.join(", ")).ok(),
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

fn allows(allowed: &OriginMatch, origin: &str) -> bool {
    let (scheme, host, port) = match allowed {
        OriginMatch::Any => return true,
        OriginMatch::Exact { scheme, host, port } => (scheme, host, port),
        OriginMatch::Suffix { scheme, suffix, port } => (scheme, suffix, port),
    };
    let Some((found_scheme, found_host, found_port)) = parts(origin) else { return false };
    let hosts_fit = match allowed {
        OriginMatch::Suffix { .. } => found_host.len().checked_sub(host.len()).is_some_and(|before| {
            before > 0 && found_host.as_bytes()[before..].eq_ignore_ascii_case(host.as_bytes())
        }),
        _ => found_host.eq_ignore_ascii_case(host),
    };
    hosts_fit && found_scheme.eq_ignore_ascii_case(scheme) && found_port == *port
}

/// Scheme, host and port of an origin.
fn parts(origin: &str) -> Option<(&str, &str, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => Some((scheme, host, port.parse().ok()?)),
        _ => Some((scheme, rest, default)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn exact(scheme: &str, host: &str, port: u16) -> OriginMatch {
        OriginMatch::Exact { scheme: scheme.into(), host: host.into(), port }
    }

    fn suffix(scheme: &str, suffix: &str, port: u16) -> OriginMatch {
        OriginMatch::Suffix { scheme: scheme.into(), suffix: suffix.into(), port }
    }

    fn cors(allow_origins: Vec<OriginMatch>, allow_credentials: bool) -> Cors {
        Cors {
            allow_origins,
            allow_credentials,
            allow_methods: vec!["GET".into(), "PUT".into()],
            allow_headers: vec!["*".into()],
            expose_headers: vec!["*".into()],
            max_age: Duration::from_secs(5),
        }
    }

    fn asking(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn written(headers: &HeaderMap) -> Vec<String> {
        let mut all: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn origins_match_by_scheme_host_and_port() {
        let cases = [
            (exact("https", "a.example", 443), "https://a.example", true),
            (exact("https", "a.example", 443), "https://A.example:443", true),
            (exact("https", "a.example", 443), "http://a.example", false),
            (exact("http", "a.example", 8080), "http://a.example:8080", true),
            (exact("http", "a.example", 8080), "http://a.example", false),
            (exact("http", "a.example", 80), "http://b.a.example", false),
            (suffix("https", ".example", 443), "https://a.b.example", true),
            (suffix("https", ".example", 443), "https://example", false),
            (suffix("https", ".example", 443), "https://.example", false),
            (suffix("https", ".example", 443), "https://aexample", false),
            (suffix("http", "", 80), "http://anything", true),
            (suffix("http", "", 80), "http://", false),
            (exact("http", "a", 80), "null", false),
            (OriginMatch::Any, "null", true),
        ];
        for (allowed, origin, expected) in cases {
            assert_eq!(allows(&allowed, origin), expected, "{allowed:?} {origin}");
        }
    }

    #[test]
    fn a_preflight_is_answered() {
        let request = asking(&[
            (ORIGIN, "https://a.example"),
            (ACCESS_CONTROL_REQUEST_METHOD, "PUT"),
            (ACCESS_CONTROL_REQUEST_HEADERS, "x-a, x-b"),
        ]);
        let allowed = cors(vec![exact("https", "a.example", 443)], true);
        let answer = preflight(&allowed, &Method::OPTIONS, &request).unwrap();
        let expected = [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: x-a, x-b",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-origin: https://a.example",
            "access-control-max-age: 5",
            "vary: Origin",
        ];
        assert_eq!(written(&answer), expected);

        let any = cors(vec![OriginMatch::Any], false);
        let answer = preflight(&any, &Method::OPTIONS, &request).unwrap();
        let expected = [
            "access-control-allow-headers: *",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-origin: *",
            "access-control-max-age: 5",
        ];
        assert_eq!(written(&answer), expected);

        let other = cors(vec![exact("https", "b.example", 443)], false);
        assert_eq!(preflight(&other, &Method::OPTIONS, &request), Some(HeaderMap::new()));
    }

    #[test]
    fn other_requests_are_no_preflights() {
        let any = cors(vec![OriginMatch::Any], false);
        let origin = (ORIGIN, "https://a.example");
        let asked = (ACCESS_CONTROL_REQUEST_METHOD, "PUT");
        assert_eq!(preflight(&any, &Method::GET, &asking(&[origin.clone(), asked.clone()])), None);
        assert_eq!(preflight(&any, &Method::OPTIONS, &asking(&[origin])), None);
        assert_eq!(preflight(&any, &Method::OPTIONS, &asking(&[asked])), None);
    }

    #[test]
    fn a_response_is_shared() {
        let origin = HeaderValue::from_static("https://a.example");
        let after = |cors: &Cors, origin: Option<&HeaderValue>| {
            let mut headers = asking(&[(HeaderName::from_static("x-a"), "1")]);
            response(cors, origin, &mut headers);
            written(&headers)
        };
        let expected = [
            "access-control-allow-credentials: true",
            "access-control-allow-origin: https://a.example",
            "access-control-expose-headers: x-a",
            "vary: Origin",
            "x-a: 1",
        ];
        assert_eq!(after(&cors(vec![OriginMatch::Any], true), Some(&origin)), expected);
        let expected = ["access-control-allow-origin: *", "access-control-expose-headers: *", "x-a: 1"];
        assert_eq!(after(&cors(vec![OriginMatch::Any], false), Some(&origin)), expected);
        assert_eq!(after(&cors(vec![exact("http", "b", 80)], false), Some(&origin)), ["x-a: 1"]);
        assert_eq!(after(&cors(vec![OriginMatch::Any], false), None), ["x-a: 1"]);
    }
}
