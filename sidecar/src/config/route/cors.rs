//! The filter `CORS`.

use std::time::Duration;

use http::HeaderName;

use super::model::{Cors, OriginMatch};
use super::raw;
use crate::config::check::Check;
use crate::config::raw::Text;
use crate::config::value::choice;
use crate::config::value::number::number;
use crate::config::value::port;

/// As many as the Gateway API allows, of each sort; it allows fewer methods, since there are no more.
const MAX_ITEMS: usize = 64;
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];
const DEFAULT_MAX_AGE: u32 = 5;

/// Why a text is none of the items of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum CorsError {
    #[error(
        "write *, or http:// or https:// with a host, such as https://app.example.com or https://*.example.com:8443"
    )]
    Origin,
    #[error("write one of {}", METHODS.join(", "))]
    Method,
    #[error("write the name of a header field, or *")]
    Header,
}

/// Reads the filter.
pub(super) fn read(check: &mut Check<'_>, field: &str, raw: &raw::Cors) -> Cors {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let allow_credentials = raw.allow_credentials.as_ref();
    let max_age =
        check.value_or(&at("maxAge"), raw.max_age.as_ref(), DEFAULT_MAX_AGE, number(1..=i32::MAX as u32));
    Cors {
        allow_origins: check.list(
            &at("allowOrigins"),
            &raw.allow_origins,
            MAX_ITEMS,
            |check, field, text| check.value(field, text, origin),
        ),
        allow_credentials: check.value_or(
            &at("allowCredentials"),
            allow_credentials,
            false,
            choice::parse_bool,
        ),
        allow_methods: words(check, &at("allowMethods"), &raw.allow_methods, method),
        allow_headers: words(check, &at("allowHeaders"), &raw.allow_headers, header),
        expose_headers: words(check, &at("exposeHeaders"), &raw.expose_headers, header),
        max_age: Duration::from_secs(max_age.into()),
    }
}

/// Reads words of which `*` must stand alone.
fn words(
    check: &mut Check<'_>,
    field: &str,
    raw: &[Text],
    parse: fn(&str) -> Result<String, CorsError>,
) -> Vec<String> {
    let words = check.list(field, raw, MAX_ITEMS, |check, field, text| check.value(field, text, parse));
    if let Some(text) = raw.iter().find(|text| raw.len() > 1 && text.value == "*") {
        check.refuse_value(field, text, "stands for all; leave out the others, or it");
    }
    words
}

fn method(text: &str) -> Result<String, CorsError> {
    if METHODS.contains(&text) { Ok(text.to_owned()) } else { Err(CorsError::Method) }
}

fn header(text: &str) -> Result<String, CorsError> {
    HeaderName::from_bytes(text.as_bytes()).map(|_| text.to_owned()).map_err(|_| CorsError::Header)
}

fn origin(text: &str) -> Result<OriginMatch, CorsError> {
    if text == "*" {
        return Ok(OriginMatch::Any);
    }
    let (scheme, rest) = text.split_once("://").ok_or(CorsError::Origin)?;
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err(CorsError::Origin),
    };
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, port::parse(port).map_err(|_| CorsError::Origin)?),
        None => (rest, default),
    };
    let (scheme, host) = (scheme.to_owned(), host.to_ascii_lowercase());
    let good = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match host.strip_prefix('*') {
        Some("") => Ok(OriginMatch::Suffix { scheme, suffix: String::new(), port }),
        Some(suffix) if suffix.strip_prefix('.').is_some_and(|parent| parent.split('.').all(good)) => {
            Ok(OriginMatch::Suffix { scheme, suffix: suffix.to_owned(), port })
        }
        None if host.split('.').all(good) => Ok(OriginMatch::Exact { scheme, host, port }),
        _ => Err(CorsError::Origin),
    }
}
