//! The kind `TrafficPolicy`.

mod conflict;
mod connection_pool;
mod fault;
mod health_check;
mod load_balancer;
mod model;
mod outlier;
mod rate_limit;
mod raw;
mod retry;
mod timeouts;
mod word;

#[cfg(test)]
mod tests;

pub use model::{
    Abort, AbortStatus, Algorithm, ConnectionPool, Delay, Fault, HashKey, HeaderMatch, HealthCheck,
    LoadBalancer, OutlierDetection, Probe, RateLimit, RateLimitKey, Retry, RetryBudget, RetryOn, SuccessRate,
    Timeouts, TrafficPolicy, TrafficSpec,
};

pub(super) use conflict::Claims;
pub(super) use raw::TrafficPolicy as Raw;

use super::check::Check;
use super::model::Config;
use super::target_ref::{self, ObjectName, TargetRef};

/// The policy called `name` (on this line), whose sections no other policy may have claimed for its targets.
pub(super) fn read(
    check: &mut Check<'_>,
    raw: &Raw,
    name: ObjectName,
    line: u64,
    claims: &mut Claims,
) -> TrafficPolicy {
    let targets = target_ref::read(check, &raw.target_refs, &name.namespace, line);
    claims.claim(check, raw, &name, &targets);
    let spec = TrafficSpec {
        load_balancer: raw.load_balancer.as_ref().and_then(|raw| load_balancer::read(check, raw)),
        connection_pool: raw.connection_pool.as_ref().map(|raw| connection_pool::read(check, &raw.value)),
        timeouts: raw.timeouts.as_ref().map(|raw| timeouts::read(check, &raw.value)),
        retry: raw.retry.as_ref().map(|raw| retry::read(check, raw)),
        retry_budget: raw.retry_budget.as_ref().map(|raw| retry::read_budget(check, &raw.value)),
        outlier_detection: raw.outlier_detection.as_ref().map(|raw| outlier::read(check, &raw.value)),
        health_check: raw.health_check.as_ref().and_then(|raw| health_check::read(check, raw)),
        rate_limit: raw.rate_limit.as_ref().and_then(|raw| rate_limit::read(check, &raw.value)),
        fault: raw.fault.as_ref().map(|raw| fault::read(check, &raw.value)),
    };
    TrafficPolicy { name, targets, spec }
}

impl Config {
    /// What the traffic policies say of these targets. Where several say the same, the first target counts: name the
    /// most specific one first, such as a route, its Service, its Backend.
    pub fn traffic_of(&self, targets: &[TargetRef]) -> TrafficSpec {
        let mut spec = TrafficSpec::default();
        for target in targets {
            for policy in self.traffic.iter().filter(|policy| policy.targets.contains(target)) {
                spec.fill(&policy.spec);
            }
        }
        spec
    }
}
