//! A `TrafficPolicy` as it is written.

use crate::config::shape::Spanned;
use serde::Deserialize;

use super::super::raw::Text;
use super::super::target_ref::RawTargetRef;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct TrafficPolicy {
    pub target_refs: Vec<Spanned<RawTargetRef>>,
    pub load_balancer: Option<Spanned<LoadBalancer>>,
    pub connection_pool: Option<Spanned<ConnectionPool>>,
    pub timeouts: Option<Spanned<Timeouts>>,
    pub retry: Option<Spanned<Retry>>,
    pub retry_budget: Option<Spanned<RetryBudget>>,
    pub outlier_detection: Option<Spanned<OutlierDetection>>,
    pub health_check: Option<Spanned<HealthCheck>>,
    pub rate_limit: Option<Spanned<RateLimit>>,
    pub fault: Option<Spanned<Fault>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct LoadBalancer {
    #[serde(rename = "type")]
    pub algorithm: Option<Text>,
    pub header: Option<Text>,
    pub cookie: Option<Text>,
    pub source: Option<Text>,
    pub slow_start: Option<Text>,
    pub zone_aware: Option<Text>,
    pub zone: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct ConnectionPool {
    pub max_connections: Option<Text>,
    pub max_pending_requests: Option<Text>,
    pub max_requests: Option<Text>,
    pub max_retries: Option<Text>,
    pub idle_timeout: Option<Text>,
    pub connect_timeout: Option<Text>,
    pub max_requests_per_connection: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Timeouts {
    pub request: Option<Text>,
    pub backend_request: Option<Text>,
    pub idle: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Retry {
    pub attempts: Option<Text>,
    pub codes: Vec<Text>,
    pub on: Option<Vec<Text>>,
    pub per_try_timeout: Option<Text>,
    pub backoff: Option<Backoff>,
    pub body_bytes: Option<Text>,
    pub hedge_on_per_try_timeout: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Backoff {
    pub base_interval: Option<Text>,
    pub max_interval: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct RetryBudget {
    pub percent: Option<Text>,
    pub min_retries_per_second: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct OutlierDetection {
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<Text>,
    pub consecutive_gateway_errors: Option<Text>,
    pub interval: Option<Text>,
    pub base_ejection_time: Option<Text>,
    pub max_ejection_time: Option<Text>,
    pub max_ejection_percent: Option<Text>,
    pub min_health_percent: Option<Text>,
    pub success_rate_stdev_factor: Option<Text>,
    pub success_rate_minimum_hosts: Option<Text>,
    pub success_rate_request_volume: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct HealthCheck {
    pub http: Option<HttpProbe>,
    pub tcp: Option<TcpProbe>,
    pub grpc: Option<GrpcProbe>,
    pub interval: Option<Text>,
    pub timeout: Option<Text>,
    pub unhealthy_threshold: Option<Text>,
    pub healthy_threshold: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct HttpProbe {
    pub path: Text,
    pub host: Option<Text>,
    pub expected_statuses: Option<Vec<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TcpProbe {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct GrpcProbe {
    pub service: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RateLimit {
    pub requests: Text,
    pub per: Option<Text>,
    pub burst: Option<Text>,
    pub key: Option<Spanned<RateLimitKey>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RateLimitKey {
    pub header: Option<Text>,
    pub source: Option<Text>,
    pub claim: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Fault {
    pub delay: Option<Delay>,
    pub abort: Option<Spanned<Abort>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(clippy::struct_field_names, reason = "the field is called as Istio calls it")]
pub(in crate::config) struct Delay {
    pub fixed_delay: Text,
    pub percent: Option<Text>,
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Abort {
    pub http_status: Option<Text>,
    pub grpc_status: Option<Text>,
    pub percent: Option<Text>,
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeaderMatch {
    pub name: Text,
    pub value: Option<Text>,
}
