//! `spec.connectionPool`.

use super::super::check::Check;
use super::super::raw::Text;
use super::super::value::duration;
use super::super::value::number::number;
use super::model::ConnectionPool;
use super::raw;

/// Reads the section.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::ConnectionPool) -> ConnectionPool {
    let default = ConnectionPool::default();
    let at = |leaf: &str| format!("spec.connectionPool.{leaf}");
    let mut limit = |leaf: &str, text: &Option<Text>, default: u32| {
        check.value_or(&at(leaf), text.as_ref(), default, number(0..=u32::MAX))
    };
    let max_connections = limit("maxConnections", &raw.max_connections, default.max_connections);
    let max_pending_requests =
        limit("maxPendingRequests", &raw.max_pending_requests, default.max_pending_requests);
    let max_requests = limit("maxRequests", &raw.max_requests, default.max_requests);
    let max_retries = limit("maxRetries", &raw.max_retries, default.max_retries);
    // 0 is Istio's way to say that there is no limit.
    let per_connection = limit("maxRequestsPerConnection", &raw.max_requests_per_connection, 0);
    ConnectionPool {
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        idle_timeout: check.value_or(
            &at("idleTimeout"),
            raw.idle_timeout.as_ref(),
            default.idle_timeout,
            duration::parse_positive,
        ),
        connect_timeout: raw
            .connect_timeout
            .as_ref()
            .and_then(|text| check.value(&at("connectTimeout"), text, duration::parse_positive)),
        max_requests_per_connection: (per_connection > 0).then_some(per_connection),
    }
}
