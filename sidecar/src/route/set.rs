//! The rules of one place, and which of them a request gets.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::hosts::without_port;
use super::{matching, order};
use crate::config::TargetRef;
use crate::config::route::{Hostname, HttpMatch, HttpRoute, HttpRule};

/// The rules of all routes of one place.
#[derive(Clone, Debug)]
pub struct RouteSet {
    /// Where they apply.
    place: TargetRef,
    /// By precedence: the first that matches counts.
    entries: Vec<Entry>,
}

/// What a request says of itself.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its `Host` or `:authority`, with or without a port.
    pub host: Option<&'a str>,
    /// Its path, without the query.
    pub path: &'a str,
    /// What comes after the `?`.
    pub query: Option<&'a str>,
    /// Its header fields.
    pub headers: &'a HeaderMap,
}

/// The rule that a request gets.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// `NAMESPACE/NAME/RULE`, with the rule's name or its index from 0.
    pub route: &'a Arc<str>,
    /// The rule.
    pub rule: &'a Arc<HttpRule>,
    /// Which of its matches.
    pub matched: &'a HttpMatch,
}

/// One match of a rule, for one host name of its route.
#[derive(Clone, Debug)]
struct Entry {
    hostname: Option<Hostname>,
    route: Arc<str>,
    rule: Arc<HttpRule>,
    /// An index of the rule's matches.
    matched: usize,
}

// === impl RouteSet ===

impl RouteSet {
    /// The rules of these routes. With `any_host`, the routes' host names do not count.
    ///
    /// A host name decides on precedence before the path does. A request that no rule of the best host name matches
    /// gets one of the next.
    pub(super) fn new<'a>(
        place: TargetRef,
        routes: impl Iterator<Item = &'a HttpRoute>,
        any_host: bool,
    ) -> Self {
        let mut routes: Vec<&HttpRoute> = routes.collect();
        // Files say nothing of the time of an object's making, by which the Gateway API goes before the name.
        routes.sort_by_cached_key(|route| (route.name.to_string(), route.grpc));
        let mut entries = Vec::new();
        for route in routes {
            for (index, rule) in route.rules.iter().enumerate() {
                let label: Arc<str> = match &rule.name {
                    Some(name) => format!("{}/{name}", route.name).into(),
                    None => format!("{}/{index}", route.name).into(),
                };
                entries.extend(entries_of(route, &label, &Arc::new(rule.clone()), any_host));
            }
        }
        // Stable: what is equal stays in the order of routes, rules and matches.
        entries.sort_by(|a: &Entry, b: &Entry| order::compare(a.rank(), b.rank()));
        Self { place, entries }
    }

    /// This rule alone, of the route or Service of this name.
    pub(super) fn of_rule(place: TargetRef, name: &str, rule: HttpRule) -> Self {
        let (route, rule) = (format!("{name}/0").into(), Arc::new(rule));
        Self { place, entries: vec![Entry { hostname: None, route, rule, matched: 0 }] }
    }

    /// The rule for this request. `None`: no route has one, which is the status 404.
    pub fn find(&self, request: &RequestParts<'_>) -> Option<Found<'_>> {
        let host = request.host.map(without_port);
        let fits = |entry: &&Entry| {
            let wanted = entry.rule.matches.get(entry.matched);
            entry.hostname.as_ref().is_none_or(|name| host.is_some_and(|host| name.matches(host)))
                && wanted.is_some_and(|wanted| matching::matches(wanted, request))
        };
        let Entry { route, rule, matched, .. } = self.entries.iter().find(fits)?;
        Some(Found { route, rule, matched: rule.matches.get(*matched)? })
    }

    /// The place where the rules apply.
    pub fn place(&self) -> &TargetRef {
        &self.place
    }

    /// Each match of each rule, with its label. A rule is one object however many matches it has.
    pub fn rules(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<HttpRule>)> {
        self.entries.iter().map(|entry| (&entry.route, &entry.rule))
    }

    /// True if there is no rule at all.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    fn rank(&self) -> (Option<&Hostname>, &HttpMatch) {
        (self.hostname.as_ref(), &self.rule.matches[self.matched])
    }
}

fn entries_of(route: &HttpRoute, label: &Arc<str>, rule: &Arc<HttpRule>, any_host: bool) -> Vec<Entry> {
    let hosts: Vec<Option<Hostname>> = if any_host || route.hostnames.is_empty() {
        vec![None]
    } else {
        route.hostnames.iter().cloned().map(Some).collect()
    };
    hosts
        .into_iter()
        .flat_map(|hostname| {
            (0..rule.matches.len()).map(move |matched| Entry {
                hostname: hostname.clone(),
                route: Arc::clone(label),
                rule: Arc::clone(rule),
                matched,
            })
        })
        .collect()
}
