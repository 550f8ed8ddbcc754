//! `matches`: which requests a rule is for.

use crate::config::shape::Spanned;
use http::{HeaderName, Method};

use super::model::{FieldMatch, HttpMatch, PathMatch, TextMatch};
use super::pattern::Pattern;
use super::{path, raw};
use crate::config::check::Check;
use crate::config::value::choice::one_of;

/// As many as the Gateway API allows.
const MAX_MATCHES: usize = 64;
/// Likewise, of header fields and of query parameters.
const MAX_FIELDS: usize = 16;

#[derive(Clone, Copy)]
enum PathSort {
    Exact,
    Prefix,
    Regex,
}

const PATH_SORTS: [(&str, PathSort); 3] =
    [("Exact", PathSort::Exact), ("PathPrefix", PathSort::Prefix), ("RegularExpression", PathSort::Regex)];
/// Whether it is a regular expression.
pub(super) const TEXT_SORTS: [(&str, bool); 2] = [("Exact", false), ("RegularExpression", true)];
const METHODS: [(&str, Method); 9] = [
    ("GET", Method::GET),
    ("HEAD", Method::HEAD),
    ("POST", Method::POST),
    ("PUT", Method::PUT),
    ("DELETE", Method::DELETE),
    ("CONNECT", Method::CONNECT),
    ("OPTIONS", Method::OPTIONS),
    ("TRACE", Method::TRACE),
    ("PATCH", Method::PATCH),
];

/// A name that is no token (RFC 9110, section 5.6.2).
#[derive(Debug, thiserror::Error)]
#[error("write a name of letters, digits and !#$%&'*+-.^_`|~")]
struct NoToken;

/// Reads the matches of a rule. None is all requests.
pub(super) fn read(check: &mut Check<'_>, field: &str, raw: &[Spanned<raw::HttpMatch>]) -> Vec<HttpMatch> {
    if raw.is_empty() {
        return vec![HttpMatch { path: everything(), method: None, headers: Vec::new(), query: Vec::new() }];
    }
    check.list(field, raw, MAX_MATCHES, |check, field, raw| one(check, field, &raw.value))
}

/// What every path is under.
pub(super) fn everything() -> PathMatch {
    PathMatch::Prefix("/".to_owned())
}

fn one(check: &mut Check<'_>, field: &str, raw: &raw::HttpMatch) -> Option<HttpMatch> {
    let headers = headers(check, &format!("{field}.headers"), &raw.headers);
    let names = |text: &str| token(text).map(|_| text.to_owned());
    let query = fields(check, &format!("{field}.queryParams"), &raw.query_params, names);
    let method = match &raw.method {
        Some(text) => Some(check.value(&format!("{field}.method"), text, method)?),
        None => None,
    };
    let path = match &raw.path {
        Some(raw) => path_match(check, &format!("{field}.path"), raw)?,
        None => everything(),
    };
    Some(HttpMatch { path, method, headers, query })
}

fn path_match(check: &mut Check<'_>, field: &str, raw: &raw::TypedText) -> Option<PathMatch> {
    let sort = match &raw.sort {
        Some(text) => check.value(&format!("{field}.type"), text, one_of(&PATH_SORTS))?,
        None => PathSort::Prefix,
    };
    let Some(text) = &raw.value else { return Some(everything()) };
    let field = format!("{field}.value");
    match sort {
        PathSort::Exact => check.value(&field, text, path::parse_match).map(PathMatch::Exact),
        PathSort::Prefix => check.value(&field, text, path::parse_match).map(|path| prefix(&path)),
        PathSort::Regex => check.value(&field, text, Pattern::parse).map(PathMatch::Regex),
    }
}

/// `/a/` means the same as `/a` (Gateway API).
pub(super) fn prefix(path: &str) -> PathMatch {
    let path = path.strip_suffix('/').unwrap_or(path);
    PathMatch::Prefix(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

fn method(text: &str) -> Result<Method, String> {
    let known = METHODS.into_iter().find(|(name, _)| *name == text);
    known
        .map(|(_, method)| method)
        .ok_or_else(|| format!("write {}", METHODS.map(|(name, _)| name).join(" or ")))
}

/// Reads matches of header fields.
pub(super) fn headers(
    check: &mut Check<'_>,
    field: &str,
    raw: &[Spanned<raw::FieldMatch>],
) -> Vec<FieldMatch> {
    fields(check, field, raw, |text| token(text).map(|name| name.as_str().to_owned()))
}

/// Of several of one name, the first counts (Gateway API).
fn fields(
    check: &mut Check<'_>,
    field: &str,
    raw: &[Spanned<raw::FieldMatch>],
    parse_name: impl Fn(&str) -> Result<String, NoToken>,
) -> Vec<FieldMatch> {
    let mut seen: Vec<String> = Vec::new();
    check.list(field, raw, MAX_FIELDS, |check, field, raw| {
        let raw = &raw.value;
        let regex = check.value_or(&format!("{field}.type"), raw.sort.as_ref(), false, one_of(&TEXT_SORTS));
        let name = check.value(&format!("{field}.name"), &raw.name, &parse_name)?;
        let value = if regex {
            TextMatch::Regex(check.value(&format!("{field}.value"), &raw.value, Pattern::parse)?)
        } else {
            TextMatch::Exact(raw.value.value.clone())
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name.clone());
        Some(FieldMatch { name, value })
    })
}

/// The name, in lower case as header fields have it.
fn token(text: &str) -> Result<HeaderName, NoToken> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| NoToken)
}
