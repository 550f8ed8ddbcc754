//! The kind HTTPRoute.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::filters::Place;
use super::model::{Filter, HttpMatch, HttpRoute, HttpRule, Retry, RuleTimeouts};
use super::{backends, filters, hostname, matches, parents, raw};
use crate::config::ObjectName;
use crate::config::check::Check;
use crate::config::raw::Text;
use crate::config::value::number::number;
use crate::config::value::{duration, name};

/// As many as the Gateway API allows.
pub(super) const MAX_HOSTNAMES: usize = 16;
/// Likewise.
pub(super) const MAX_RULES: usize = 16;
/// Likewise, of all rules of a route.
const MAX_MATCHES: usize = 128;
const ATTEMPTS: RangeInclusive<u32> = 0..=100;
const DEFAULT_ATTEMPTS: u32 = 1;
/// Statuses after which to try again, as the Gateway API has them.
const CODES: RangeInclusive<u16> = 400..=599;
const MAX_CODES: usize = 200;

/// The route of this name, which stands on this line.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::HttpRoute, name: ObjectName, line: u64) -> HttpRoute {
    note_gateways(check, "HTTPRoute", raw.use_default_gateways.as_ref());
    let parents = parents::read(check, &raw.parent_refs, &name.namespace, line);
    let hostnames = check.list("spec.hostnames", &raw.hostnames, MAX_HOSTNAMES, |c, field, text| {
        c.value(field, text, hostname::parse)
    });
    let mut rules = check.list("spec.rules", &raw.rules, MAX_RULES, |check, field, raw| {
        Some(rule(check, field, &raw.value, &name.namespace, raw.line))
    });
    if raw.rules.is_empty() {
        rules.push(empty_rule());
    }
    bound_matches(check, &rules, line);
    HttpRoute { name, grpc: false, parents, hostnames, rules }
}

/// What a route without rules has (Gateway API): all requests, for nobody.
pub(super) fn empty_rule() -> HttpRule {
    let all = HttpMatch { path: matches::everything(), method: None, headers: Vec::new(), query: Vec::new() };
    HttpRule {
        name: None,
        matches: vec![all],
        filters: Vec::new(),
        backends: Vec::new(),
        timeouts: RuleTimeouts::default(),
        retry: None,
    }
}

pub(super) fn bound_matches(check: &mut Check<'_>, rules: &[HttpRule], line: u64) {
    let count: usize = rules.iter().map(|rule| rule.matches.len()).sum();
    if count > MAX_MATCHES {
        let why = format_args!("{count} matches in all are more than {MAX_MATCHES}; split the route");
        check.refuse(line, "spec.rules", why);
    }
}

/// Gateways are none of our business.
pub(super) fn note_gateways(check: &mut Check<'_>, kind: &str, text: Option<&Text>) {
    if let Some(text) = text {
        check.note_unused(kind, "spec.useDefaultGateways", text.line);
    }
}

/// The name of a rule.
pub(super) fn rule_name(check: &mut Check<'_>, field: &str, text: Option<&Text>) -> Option<String> {
    text.and_then(|text| check.value(&format!("{field}.name"), text, name::parse))
}

fn rule(check: &mut Check<'_>, field: &str, raw: &raw::HttpRule, namespace: &str, line: u64) -> HttpRule {
    let at = |leaf: &str| format!("{field}.{leaf}");
    if let Some(session) = &raw.session_persistence {
        check.note_unused("HTTPRoute", &at("sessionPersistence"), session.line);
    }
    let name = rule_name(check, field, raw.name.as_ref());
    let matches = matches::read(check, &at("matches"), &raw.matches);
    let filters = filters::read(check, &at("filters"), &raw.filters, Place::HttpRule, namespace);
    filters::agree(check, &at("filters"), &filters, &matches, line);
    let backends =
        backends::read(check, &at("backendRefs"), &raw.backend_refs, Some(Place::HttpBackend), namespace);
    for backend in &backends {
        filters::agree(check, &at("backendRefs"), &backend.filters, &matches, line);
    }
    if !raw.backend_refs.is_empty() && filters.iter().any(|filter| matches!(filter, Filter::Redirect(_))) {
        check.refuse(line, &at("backendRefs"), "a RequestRedirect forwards nothing; leave out one of both");
    }
    HttpRule {
        name,
        matches,
        filters,
        backends,
        timeouts: raw.timeouts.as_ref().map(|raw| timeouts(check, &at("timeouts"), raw)).unwrap_or_default(),
        retry: raw.retry.as_ref().map(|raw| retry(check, &at("retry"), raw)),
    }
}

fn timeouts(check: &mut Check<'_>, field: &str, raw: &raw::RuleTimeouts) -> RuleTimeouts {
    let at = |leaf: &str| format!("{field}.{leaf}");
    // Zero is no limit (Gateway API).
    let mut read = |leaf: &str, text: &Option<Text>| {
        let text = text.as_ref()?;
        check.value(&at(leaf), text, duration::parse).filter(|duration| !duration.is_zero())
    };
    let request = read("request", &raw.request);
    let backend_request = read("backendRequest", &raw.backend_request);
    if let (Some(request), Some(backend), Some(text)) = (request, backend_request, &raw.backend_request)
        && backend > request
    {
        check.refuse_value(&at("backendRequest"), text, "is longer than request; write at most that");
    }
    RuleTimeouts { request, backend_request }
}

fn retry(check: &mut Check<'_>, field: &str, raw: &raw::Retry) -> Retry {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let mut codes = check.list(&at("codes"), &raw.codes, MAX_CODES, |check, field, text| {
        check.value(field, text, number(CODES))
    });
    codes.sort_unstable();
    codes.dedup();
    let backoff: Option<Duration> =
        raw.backoff.as_ref().and_then(|text| check.value(&at("backoff"), text, duration::parse));
    Retry {
        attempts: check.value_or(&at("attempts"), raw.attempts.as_ref(), DEFAULT_ATTEMPTS, number(ATTEMPTS)),
        codes,
        backoff,
    }
}
