//! ALLOW and DENY.

use std::net::IpAddr;

use serde_json::Value;

use super::{Facts, Identity, claims};
use crate::config::access::{Action, Pattern, Rule};

/// What the rules say of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    Allow,
    /// A DENY matches.
    Denied,
    /// No ALLOW matches.
    NotAllowed,
    /// No ALLOW matches, but one might with an identity.
    IdentityNeeded,
}

/// Decides. `identifies`: there is a way to have an identity, so that ALLOW rules want one unless they say otherwise.
pub(super) fn decide(
    rules: &[Rule],
    facts: &Facts<'_>,
    identity: Option<&Identity>,
    identifies: bool,
) -> Decision {
    let of = |action: Action| rules.iter().filter(move |rule| rule.action == action);
    if of(Action::Deny).any(|rule| matches(rule, facts, identity)) {
        return Decision::Denied;
    }
    let anonymous = identifies && identity.is_none();
    let any_allow = of(Action::Allow).next().is_some();
    let allowed =
        of(Action::Allow).any(|rule| (rule.unauthenticated || !anonymous) && matches(rule, facts, identity));
    match (allowed, anonymous) {
        (false, true) => Decision::IdentityNeeded,
        (false, false) if any_allow => Decision::NotAllowed,
        (true, _) | (false, false) => Decision::Allow,
    }
}

/// True if all that the rule says holds.
fn matches(rule: &Rule, facts: &Facts<'_>, identity: Option<&Identity>) -> bool {
    let (from, to, when) = (&rule.from, &rule.to, &rule.when);
    let principal = identity.map(|identity| identity.principal.as_str());
    let claims = identity.map_or(&Value::Null, |identity| &*identity.claims);
    let source = facts.source.to_canonical();
    (from.sources.is_empty() || from.sources.iter().any(|network| network.contains(&source)))
        && one_of(&from.principals, principal)
        && (to.methods.is_empty() || to.methods.iter().any(|method| method == facts.method.as_str()))
        && one_of(&to.paths, Some(facts.path))
        && (to.hosts.is_empty() || one_of(&to.hosts, facts.host.map(host).as_deref()))
        && (to.ports.is_empty() || to.ports.contains(&facts.port))
        && when.claims.iter().all(|(path, values)| claims::has(claims, path, values))
        && when.headers.iter().all(|(name, patterns)| {
            let mut values = facts.headers.get_all(name).iter();
            // Not `to_str`, which fails beyond ASCII: a DENY would not see such values.
            values.any(|value| one_of(patterns, Some(&String::from_utf8_lossy(value.as_bytes()))))
        })
}

/// True if there are no patterns, or there is a text and one matches it.
fn one_of(patterns: &[Pattern], text: Option<&str>) -> bool {
    let matches = |text| patterns.iter().any(|pattern| pattern.matches(text));
    patterns.is_empty() || text.is_some_and(matches)
}

/// A host as rules write it: without port and final dot, in lower case.
fn host(text: &str) -> String {
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !is_ipv6(text) => name,
        _ => text,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.ends_with(']')
}
