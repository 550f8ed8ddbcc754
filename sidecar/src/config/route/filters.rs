//! `filters`: what is done to requests and responses.

use crate::config::shape::Spanned;

use super::model::{Filter, Fraction, HttpMatch, Mirror, PathEdit, PathMatch, Redirect, Rewrite};
use super::{backends, cors, header_edits, hostname, path, raw};
use crate::config::check::{Check, Referent};
use crate::config::raw::Text;
use crate::config::value::choice::one_of;
use crate::config::value::number::number;
use crate::config::value::{name, port};

/// As many as the Gateway API allows.
const MAX_FILTERS: usize = 16;

/// Where filters stand, which decides on what they may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    HttpRule,
    HttpBackend,
    GrpcRule,
    GrpcBackend,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sort {
    RequestHeaders,
    ResponseHeaders,
    Mirror,
    Redirect,
    Rewrite,
    Cors,
    Extension,
}

const SCHEMES: [(&str, &str); 2] = [("http", "http"), ("https", "https")];
const STATUSES: [(&str, u16); 5] = [("301", 301), ("302", 302), ("303", 303), ("307", 307), ("308", 308)];

/// Reads the filters of a rule or backend.
pub(super) fn read(
    check: &mut Check<'_>,
    field: &str,
    raw: &[Spanned<raw::Filter>],
    place: Place,
    namespace: &str,
) -> Vec<Filter> {
    let mut seen: Vec<Sort> = Vec::new();
    check.list(field, raw, MAX_FILTERS, |check, field, raw| {
        let (line, raw) = (raw.line, &raw.value);
        let sort = sort(check, field, raw, line, place)?;
        let why = match sort {
            Sort::Mirror => None,
            Sort::Redirect if seen.contains(&Sort::Rewrite) => {
                Some("a URLRewrite is given too; leave one out")
            }
            Sort::Rewrite if seen.contains(&Sort::Redirect) => {
                Some("a RequestRedirect is given too; leave one out")
            }
            sort if seen.contains(&sort) => Some("is given twice; leave one out"),
            _ => None,
        };
        if let Some(why) = why {
            check.refuse_value(&format!("{field}.type"), &raw.sort, why);
            return None;
        }
        seen.push(sort);
        filter(check, field, raw, line, namespace)
    })
}

/// What filters of a rule demand of the rest of it (Gateway API).
pub(super) fn agree(
    check: &mut Check<'_>,
    field: &str,
    filters: &[Filter],
    matches: &[HttpMatch],
    line: u64,
) {
    let edits_prefix = filters.iter().any(|filter| match filter {
        Filter::Redirect(Redirect { path, .. }) | Filter::Rewrite(Rewrite { path, .. }) => {
            matches!(path, Some(PathEdit::Prefix(_)))
        }
        _ => false,
    });
    let one_prefix = matches!(matches, [HttpMatch { path: PathMatch::Prefix(_), .. }]);
    if edits_prefix && !one_prefix {
        let why = "ReplacePrefixMatch needs a rule with one match alone, of type PathPrefix; make it a rule of its own";
        check.refuse(line, field, why);
    }
}

/// What the filter is, if that may stand here and it has the field of it, and no other.
fn sort(check: &mut Check<'_>, field: &str, raw: &raw::Filter, line: u64, place: Place) -> Option<Sort> {
    let all = [
        ("RequestHeaderModifier", "requestHeaderModifier", raw.request_header_modifier.is_some()),
        ("ResponseHeaderModifier", "responseHeaderModifier", raw.response_header_modifier.is_some()),
        ("RequestMirror", "requestMirror", raw.request_mirror.is_some()),
        ("URLRewrite", "urlRewrite", raw.url_rewrite.is_some()),
        ("RequestRedirect", "requestRedirect", raw.request_redirect.is_some()),
        ("CORS", "cors", raw.cors.is_some()),
        ("ExtensionRef", "extensionRef", raw.extension_ref.is_some()),
        ("ExternalAuth", "externalAuth", raw.external_auth.is_some()),
    ];
    let words: &[(&str, Sort)] = &[
        ("RequestHeaderModifier", Sort::RequestHeaders),
        ("ResponseHeaderModifier", Sort::ResponseHeaders),
        ("RequestMirror", Sort::Mirror),
        ("URLRewrite", Sort::Rewrite),
        ("RequestRedirect", Sort::Redirect),
        ("CORS", Sort::Cors),
        ("ExtensionRef", Sort::Extension),
    ];
    let allowed: Vec<(&str, Sort)> = words
        .iter()
        .copied()
        .filter(|(_, sort)| match (place, sort) {
            // A backend is chosen when these have answered already.
            (Place::HttpBackend, Sort::Redirect | Sort::Cors | Sort::Extension)
            | (Place::GrpcRule, Sort::Redirect | Sort::Rewrite | Sort::Cors)
            | (Place::GrpcBackend, Sort::Redirect | Sort::Rewrite | Sort::Cors | Sort::Extension) => false,
            _ => true,
        })
        .collect();
    let sort = check.value(&format!("{field}.type"), &raw.sort, one_of(&allowed))?;
    for (name, member, given) in all {
        let wanted = name == raw.sort.value;
        if wanted && !given {
            check.refuse(line, &format!("{field}.{member}"), "is required");
            return None;
        }
        if given && !wanted {
            let why = format_args!("does not belong to a filter of type {}; leave it out", raw.sort.value);
            check.refuse(line, &format!("{field}.{member}"), why);
        }
    }
    Some(sort)
}

fn filter(
    check: &mut Check<'_>,
    field: &str,
    raw: &raw::Filter,
    line: u64,
    namespace: &str,
) -> Option<Filter> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    if let Some(raw) = &raw.request_header_modifier {
        Some(Filter::RequestHeaders(header_edits::read(check, &at("requestHeaderModifier"), raw)))
    } else if let Some(raw) = &raw.response_header_modifier {
        Some(Filter::ResponseHeaders(header_edits::read(check, &at("responseHeaderModifier"), raw)))
    } else if let Some(raw) = &raw.request_mirror {
        mirror(check, &at("requestMirror"), raw, line, namespace).map(Filter::Mirror)
    } else if let Some(raw) = &raw.request_redirect {
        Some(Filter::Redirect(redirect(check, &at("requestRedirect"), raw)))
    } else if let Some(raw) = &raw.url_rewrite {
        Some(Filter::Rewrite(rewrite(check, &at("urlRewrite"), raw)))
    } else if let Some(raw) = &raw.cors {
        Some(Filter::Cors(cors::read(check, &at("cors"), raw)))
    } else {
        respond(check, &at("extensionRef"), raw.extension_ref.as_ref()?)
    }
}

fn mirror(
    check: &mut Check<'_>,
    field: &str,
    raw: &raw::Mirror,
    line: u64,
    namespace: &str,
) -> Option<Mirror> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let fraction = match (&raw.percent, &raw.fraction) {
        (None, None) => Fraction::default(),
        (Some(text), None) => {
            let numerator = check.value(&at("percent"), text, number(0..=100))?;
            Fraction { numerator, denominator: 100 }
        }
        (None, Some(raw)) => {
            let text = raw.denominator.as_ref();
            let denominator =
                check.value_or(&at("fraction.denominator"), text, 100, number(1..=i32::MAX as u32));
            let of = number(0..=denominator);
            let numerator = check.value(&at("fraction.numerator"), &raw.numerator, of)?;
            Fraction { numerator, denominator }
        }
        (Some(_), Some(_)) => {
            check.refuse(line, &at("fraction"), "percent is given too; leave one out");
            return None;
        }
    };
    let backend = backends::read_one(check, &at("backendRef"), &raw.backend_ref, namespace)?;
    Some(Mirror { backend, fraction })
}

/// What is given and wrong is noted, and counts as not given.
fn redirect(check: &mut Check<'_>, field: &str, raw: &raw::Redirect) -> Redirect {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let scheme = raw.scheme.as_ref().and_then(|text| check.value(&at("scheme"), text, one_of(&SCHEMES)));
    Redirect {
        scheme: scheme.map(str::to_owned),
        hostname: hostname(check, field, raw.hostname.as_ref()),
        path: raw.path.as_ref().and_then(|raw| path_edit(check, &at("path"), raw)),
        port: raw.port.as_ref().and_then(|text| check.value(&at("port"), text, port::parse)),
        status: check.value_or(&at("statusCode"), raw.status_code.as_ref(), 302, one_of(&STATUSES)),
    }
}

/// Likewise.
fn rewrite(check: &mut Check<'_>, field: &str, raw: &raw::Rewrite) -> Rewrite {
    Rewrite {
        hostname: hostname(check, field, raw.hostname.as_ref()),
        path: raw.path.as_ref().and_then(|raw| path_edit(check, &format!("{field}.path"), raw)),
    }
}

fn hostname(check: &mut Check<'_>, field: &str, text: Option<&Text>) -> Option<String> {
    text.and_then(|text| check.value(&format!("{field}.hostname"), text, hostname::parse_precise))
}

fn path_edit(check: &mut Check<'_>, field: &str, raw: &Spanned<raw::PathEdit>) -> Option<PathEdit> {
    let (line, raw) = (raw.line, &raw.value);
    let sorts = [("ReplaceFullPath", false), ("ReplacePrefixMatch", true)];
    let prefix = check.value(&format!("{field}.type"), &raw.sort, one_of(&sorts))?;
    match (prefix, &raw.replace_full_path, &raw.replace_prefix_match) {
        (false, Some(text), None) => {
            check.value(&format!("{field}.replaceFullPath"), text, path::parse).map(PathEdit::Full)
        }
        (true, None, Some(text)) => check
            .value(&format!("{field}.replacePrefixMatch"), text, path::parse_prefix)
            .map(PathEdit::Prefix),
        (prefix, ..) => {
            let member = if prefix { "replacePrefixMatch" } else { "replaceFullPath" };
            check.refuse(line, field, format_args!("write {member}, and no other, for this type"));
            None
        }
    }
}

fn respond(check: &mut Check<'_>, field: &str, raw: &raw::ExtensionRef) -> Option<Filter> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    check.value(&at("group"), &raw.group, one_of(&[("sidecar.dev", ())]))?;
    check.value(&at("kind"), &raw.kind, one_of(&[("DirectResponse", ())]))?;
    let name = check.value(&at("name"), &raw.name, name::parse)?;
    check.refer(Referent::DirectResponse, &name, &at("name"), raw.name.line);
    Some(Filter::Respond(name))
}
