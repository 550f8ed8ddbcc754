//! Which policy says what of which target: two must not say the same section of one.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::shape::Spanned;

use super::super::check::Check;
use super::super::model::Location;
use super::super::target_ref::{ObjectName, TargetRef};
use super::raw::TrafficPolicy;

/// The sections that policies have said so far, and where. Bounded by the size of the files.
#[derive(Default)]
pub(in crate::config) struct Claims {
    taken: BTreeMap<(TargetRef, &'static str), (ObjectName, Location)>,
}

impl Claims {
    /// Notes the sections of one policy for its targets, or that another has them.
    pub(super) fn claim(
        &mut self,
        check: &mut Check<'_>,
        raw: &TrafficPolicy,
        name: &ObjectName,
        targets: &[TargetRef],
    ) {
        for (section, line) in sections(raw) {
            for target in targets {
                let key = (target.clone(), section);
                match self.taken.get(&key) {
                    // The policy names a target twice.
                    Some((first, _)) if first == name => {}
                    Some((first, at)) => {
                        let target = Shown(target);
                        let why = format_args!(
                            "TrafficPolicy {first} says this of {target} already, at {at}; leave one out"
                        );
                        check.refuse(line, &format!("spec.{section}"), why);
                    }
                    None => {
                        self.taken.insert(key, (name.clone(), check.document.at(line)));
                    }
                }
            }
        }
    }
}

/// The sections that are given, with their lines.
fn sections(raw: &TrafficPolicy) -> impl Iterator<Item = (&'static str, u64)> {
    fn line<T>(section: Option<&Spanned<T>>) -> Option<u64> {
        section.map(|section| section.line)
    }
    let all = [
        ("loadBalancer", line(raw.load_balancer.as_ref())),
        ("connectionPool", line(raw.connection_pool.as_ref())),
        ("timeouts", line(raw.timeouts.as_ref())),
        ("retry", line(raw.retry.as_ref())),
        ("retryBudget", line(raw.retry_budget.as_ref())),
        ("outlierDetection", line(raw.outlier_detection.as_ref())),
        ("healthCheck", line(raw.health_check.as_ref())),
        ("rateLimit", line(raw.rate_limit.as_ref())),
        ("fault", line(raw.fault.as_ref())),
    ];
    all.into_iter().filter_map(|(name, line)| Some((name, line?)))
}

struct Shown<'a>(&'a TargetRef);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TargetRef::Backend(name) => write!(f, "Backend {name}"),
            TargetRef::Service(name) => write!(f, "Service {name}"),
            TargetRef::Route(name) => write!(f, "route {name}"),
            TargetRef::Listener(name) => write!(f, "Listener {name}"),
            TargetRef::Inbound(port) => write!(f, "Inbound port {port}"),
        }
    }
}
