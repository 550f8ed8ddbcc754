//! `spec.probes` of a `ProxyConfig`: requests that the proxy makes on a schedule.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::shape::Spanned;
use hyper::Uri;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method};

use super::build::Forward;
use super::check::Check;
use super::model::{Probe, ProbeTarget};
use super::raw;
use super::value::number::number;
use super::value::size::ByteSize;
use super::value::{address, duration, header, name};

/// How many probes there may be.
const MAX_PROBES: usize = 64;
/// How many header fields each may have.
const MAX_HEADERS: usize = 32;
const STATUSES: RangeInclusive<u16> = 100..=599;
const LOGGED: RangeInclusive<ByteSize> = ByteSize(0)..=ByteSize(64 * 1024);
const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a value is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum ProbeError {
    #[error(
        "write an http URL of this host and port alone, such as http://127.0.0.1:8080; its path is `path`"
    )]
    Url,
    #[error("write a path with a leading slash, such as /healthz")]
    Path,
    #[error("write a method, such as GET; CONNECT is none that can be asked here")]
    Method,
    #[error("write a header's name, such as x-user, that neither frames the request nor is of one hop")]
    HeaderName,
    #[error("write a header's value: visible characters, spaces and tabs")]
    HeaderValue,
}

/// Reads the list, and which backends it names.
pub(super) fn read(check: &mut Check<'_>, raw: &[Spanned<raw::Probe>]) -> (Vec<Probe>, Vec<Forward>) {
    let mut forwards = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let probes = check.list("spec.probes", raw, MAX_PROBES, |check, field, raw| {
        let line = raw.line;
        let probe = probe(check, field, line, &raw.value)?;
        if names.contains(&probe.name) {
            let why = "is the name of a probe before; rename one";
            check.refuse_value(&format!("{field}.name"), &raw.value.name, why);
            return None;
        }
        names.push(probe.name.clone());
        if let (ProbeTarget::Backend(backend), Some(text)) = (&probe.target, &raw.value.backend) {
            let at = check.document.at(text.line);
            forwards.push(Forward { backend: backend.clone(), field: format!("{field}.backend"), at });
        }
        Some(probe)
    });
    (probes, forwards)
}

fn probe(check: &mut Check<'_>, field: &str, line: u64, raw: &raw::Probe) -> Option<Probe> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let name = check.value(&at("name"), &raw.name, name::parse);
    let target = match (&raw.backend, &raw.url) {
        (Some(text), None) => check.value(&at("backend"), text, name::parse).map(ProbeTarget::Backend),
        (None, Some(text)) => check.value(&at("url"), text, url).map(ProbeTarget::Url),
        _ => {
            check.refuse(line, field, "write exactly one of backend and url");
            None
        }
    };
    let interval = check.value_or(&at("interval"), raw.interval.as_ref(), INTERVAL, duration::parse_positive);
    let most = check.value_or(&at("timeout"), raw.timeout.as_ref(), TIMEOUT, duration::parse_positive);
    let statuses = at("expectedStatuses");
    let expected_statuses = match &raw.expected_statuses {
        Some(texts) => check.set(&statuses, texts, number(STATUSES)),
        None => (200..400).collect(),
    };
    if raw.expected_statuses.as_ref().is_some_and(Vec::is_empty) {
        check.refuse(line, &statuses, "is empty; write at least one status, such as 200");
    }
    let root = PathAndQuery::from_static("/");
    Some(Probe {
        path: check.value_or(&at("path"), raw.path.as_ref(), root, path),
        method: check.value_or(&at("method"), raw.method.as_ref(), Method::GET, method),
        headers: headers(check, &at("headers"), &raw.headers),
        log_body: check.value_or(&at("logBody"), raw.log_body.as_ref(), 0, ByteSize::parse_within(LOGGED)),
        interval,
        timeout: most,
        expected_statuses,
        name: name?,
        target: target?,
    })
}

fn headers(check: &mut Check<'_>, field: &str, raw: &[Spanned<raw::ProbeHeader>]) -> HeaderMap {
    let fields = check.list(field, raw, MAX_HEADERS, |check, field, raw| {
        let name = check.value(&format!("{field}.name"), &raw.value.name, header_name);
        let value = check.value(&format!("{field}.value"), &raw.value.value, |text| {
            HeaderValue::from_str(text).map_err(|_| ProbeError::HeaderValue)
        });
        Some((name?, value?))
    });
    // One name may have several values.
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name, value);
    }
    map
}

fn header_name(text: &str) -> Result<HeaderName, ProbeError> {
    let name = header::parse(text).map_err(|_| ProbeError::HeaderName)?;
    // A probe may name the host that it asks.
    if name == HOST { Ok(name) } else { header::parse_copied(text).map_err(|_| ProbeError::HeaderName) }
}

fn url(text: &str) -> Result<Uri, ProbeError> {
    let uri = address::parse_url(text).map_err(|_| ProbeError::Url)?;
    let clear = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let bare = matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("" | "/"));
    if uri.scheme_str() == Some("http") && clear && bare { Ok(uri) } else { Err(ProbeError::Url) }
}

fn path(text: &str) -> Result<PathAndQuery, ProbeError> {
    if text.starts_with('/') { text.parse().map_err(|_| ProbeError::Path) } else { Err(ProbeError::Path) }
}

fn method(text: &str) -> Result<Method, ProbeError> {
    let method: Method = text.parse().map_err(|_| ProbeError::Method)?;
    if method == Method::CONNECT { Err(ProbeError::Method) } else { Ok(method) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_not_those_of_the_connection() {
        assert_eq!(header_name("Host").map(|name| name == HOST), Ok(true));
        for name in ["expect", "Content-Length", "x y"] {
            assert_eq!(header_name(name), Err(ProbeError::HeaderName), "{name}");
        }
    }
}
