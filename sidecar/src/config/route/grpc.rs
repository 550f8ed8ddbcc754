//! The kind GRPCRoute, in the form of an [`HttpRoute`]: a gRPC call is a POST to `/SERVICE/METHOD`.

use crate::config::shape::Spanned;
use http::Method;

use super::filters::Place;
use super::http::{MAX_HOSTNAMES, MAX_RULES, bound_matches, empty_rule, note_gateways, rule_name};
use super::matches::{self, TEXT_SORTS};
use super::model::{HttpMatch, HttpRoute, HttpRule, PathMatch, RuleTimeouts};
use super::pattern::{Pattern, PatternError};
use super::{backends, filters, hostname, parents, raw};
use crate::config::ObjectName;
use crate::config::check::Check;
use crate::config::raw::Text;
use crate::config::value::choice::one_of;

/// As many as the Gateway API allows.
const MAX_MATCHES: usize = 64;
/// Any service or method.
const ANY: &str = "[^/]+";

/// Why a text is not the name of a service or method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write a name of letters, digits, '_' and '.', such as helloworld.Greeter or SayHello")]
struct NameError;

/// The route of this name, which stands on this line.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::GrpcRoute, name: ObjectName, line: u64) -> HttpRoute {
    note_gateways(check, "GRPCRoute", raw.use_default_gateways.as_ref());
    let parents = parents::read(check, &raw.parent_refs, &name.namespace, line);
    let hostnames = check.list("spec.hostnames", &raw.hostnames, MAX_HOSTNAMES, |c, field, text| {
        c.value(field, text, hostname::parse)
    });
    let mut rules = check.list("spec.rules", &raw.rules, MAX_RULES, |check, field, raw| {
        Some(rule(check, field, &raw.value, &name.namespace))
    });
    if raw.rules.is_empty() {
        rules.push(HttpRule { matches: vec![every_call()], ..empty_rule() });
    }
    bound_matches(check, &rules, line);
    HttpRoute { name, grpc: true, parents, hostnames, rules }
}

fn every_call() -> HttpMatch {
    call(matches::everything())
}

fn call(path: PathMatch) -> HttpMatch {
    HttpMatch { path, method: Some(Method::POST), headers: Vec::new(), query: Vec::new() }
}

fn rule(check: &mut Check<'_>, field: &str, raw: &raw::GrpcRule, namespace: &str) -> HttpRule {
    let at = |leaf: &str| format!("{field}.{leaf}");
    if let Some(session) = &raw.session_persistence {
        check.note_unused("GRPCRoute", &at("sessionPersistence"), session.line);
    }
    let mut matches = check.list(&at("matches"), &raw.matches, MAX_MATCHES, |check, field, raw| {
        let raw = &raw.value;
        let headers = matches::headers(check, &format!("{field}.headers"), &raw.headers);
        let path = match &raw.method {
            Some(raw) => method(check, &format!("{field}.method"), raw)?,
            None => matches::everything(),
        };
        Some(HttpMatch { headers, ..call(path) })
    });
    if raw.matches.is_empty() {
        matches.push(every_call());
    }
    HttpRule {
        name: rule_name(check, field, raw.name.as_ref()),
        matches,
        filters: filters::read(check, &at("filters"), &raw.filters, Place::GrpcRule, namespace),
        backends: backends::read(
            check,
            &at("backendRefs"),
            &raw.backend_refs,
            Some(Place::GrpcBackend),
            namespace,
        ),
        timeouts: RuleTimeouts::default(),
        retry: None,
    }
}

fn method(check: &mut Check<'_>, field: &str, raw: &Spanned<raw::GrpcMethod>) -> Option<PathMatch> {
    let (line, raw) = (raw.line, &raw.value);
    let regex = check.value_or(&format!("{field}.type"), raw.sort.as_ref(), false, one_of(&TEXT_SORTS));
    let mut part = |leaf: &str, text: &Option<Text>| -> Option<Option<String>> {
        let Some(text) = text.as_ref().filter(|text| !text.value.is_empty()) else { return Some(None) };
        let field = format!("{field}.{leaf}");
        if regex {
            // Each by itself, so that it keeps to its part of the path.
            check.value(&field, text, Pattern::parse).map(|pattern| Some(pattern.as_str().to_owned()))
        } else {
            check.value(&field, text, parse_name).map(Some)
        }
    };
    let (service, method) = (part("service", &raw.service), part("method", &raw.method));
    let (service, method) = (service?, method?);
    if service.is_none() && method.is_none() {
        check.refuse(line, field, "write service or method or both");
        return None;
    }
    if regex {
        let group = |part: Option<String>| part.map_or(ANY.to_owned(), |part| format!("(?:{part})"));
        return pattern(check, field, line, &format!("/{}/{}", group(service), group(method)));
    }
    match (service, method) {
        (Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{service}/{method}"))),
        (Some(service), None) => Some(PathMatch::Prefix(format!("/{service}"))),
        (_, method) => {
            let method = regex::escape(&method.unwrap_or_default());
            pattern(check, field, line, &format!("/{ANY}/{method}"))
        }
    }
}

fn pattern(check: &mut Check<'_>, field: &str, line: u64, text: &str) -> Option<PathMatch> {
    let noted = |why: PatternError| check.refuse(line, field, why);
    Pattern::parse(text).map_err(noted).ok().map(PathMatch::Regex)
}

/// As the Gateway API has them: names of protocol buffers, and what else stands in a path.
fn parse_name(text: &str) -> Result<String, NameError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if text.len() > 1024 || !text.bytes().all(good) { Err(NameError) } else { Ok(text.to_owned()) }
}
