//! A `TrafficPolicy` as it is written.

use crate::config::shape::Spanned;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::raw::Text;
use super::super::schema;
use super::super::target_ref::RawTargetRef;
use super::load_balancer::Type as LoadBalancing;
use super::model::RetryOn;
use super::word::Source;

/// How requests to some targets are treated on their way.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct TrafficPolicy {
    /// Whom it is about; at least one.
    pub target_refs: Vec<Spanned<RawTargetRef>>,
    /// Which endpoint a request goes to.
    pub load_balancer: Option<Spanned<LoadBalancer>>,
    /// Circuit breakers, and the life of pooled connections.
    pub connection_pool: Option<Spanned<ConnectionPool>>,
    /// How long is waited.
    pub timeouts: Option<Spanned<Timeouts>>,
    /// What is tried again, and when.
    pub retry: Option<Spanned<Retry>>,
    /// How many requests may be retries.
    pub retry_budget: Option<Spanned<RetryBudget>>,
    /// Which endpoints are left out for a while for how they answer.
    pub outlier_detection: Option<Spanned<OutlierDetection>>,
    /// How endpoints are asked whether they are well.
    pub health_check: Option<Spanned<HealthCheck>>,
    /// How many requests are let in.
    pub rate_limit: Option<Spanned<RateLimit>>,
    /// What is made to go wrong.
    pub fault: Option<Spanned<Fault>>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct LoadBalancer {
    /// How an endpoint is chosen. Default: LeastRequest.
    #[schemars(with = "Option<schema::Choice<LoadBalancing>>")]
    #[serde(rename = "type")]
    pub algorithm: Option<Text>,
    /// Of ConsistentHash: hashes this header's value.
    pub header: Option<Text>,
    /// Of ConsistentHash: hashes this cookie's value.
    pub cookie: Option<Text>,
    /// Of ConsistentHash: hashes the client's address.
    #[schemars(with = "Option<schema::Choice<Source>>")]
    pub source: Option<Text>,
    /// Endpoints that are new get their full share only after this time.
    #[schemars(with = "Option<schema::Duration>")]
    pub slow_start: Option<Text>,
    /// Whether endpoints of the same zone are preferred. Default: true where zone is given.
    #[schemars(with = "Option<schema::Boolean>")]
    pub zone_aware: Option<Text>,
    /// The proxy's own zone.
    pub zone: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct ConnectionPool {
    /// Connections to all endpoints together. Default: 1024.
    #[schemars(with = "Option<schema::Count>")]
    pub max_connections: Option<Text>,
    /// Requests that wait for a connection. Default: 1024.
    #[schemars(with = "Option<schema::Count>")]
    pub max_pending_requests: Option<Text>,
    /// Requests that are under way. Default: 1024.
    #[schemars(with = "Option<schema::Count>")]
    pub max_requests: Option<Text>,
    /// Retries that are under way. Default: 3.
    #[schemars(with = "Option<schema::Count>")]
    pub max_retries: Option<Text>,
    /// How long a connection is kept without a request.
    #[schemars(with = "Option<schema::Duration>")]
    pub idle_timeout: Option<Text>,
    /// For a new connection. Default: as ProxyConfig says.
    #[schemars(with = "Option<schema::Duration>")]
    pub connect_timeout: Option<Text>,
    /// After how many requests a connection is closed. 0 (default): never.
    #[schemars(with = "Option<schema::Count>")]
    pub max_requests_per_connection: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Timeouts {
    /// For a request with all its retries, to the end of its answer. 0s: without end.
    #[schemars(with = "Option<schema::Duration>")]
    pub request: Option<Text>,
    /// For one attempt, to the end of its answer.
    #[schemars(with = "Option<schema::Duration>")]
    pub backend_request: Option<Text>,
    /// For more of either body, or an answer.
    #[schemars(with = "Option<schema::Duration>")]
    pub idle: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Retry {
    /// How often, after the first time. Default: 2.
    #[schemars(with = "Option<schema::Count>")]
    pub attempts: Option<Text>,
    /// After which HTTP statuses.
    #[schemars(with = "Vec<schema::Count>")]
    pub codes: Vec<Text>,
    /// After what else, in Envoy's words.
    #[schemars(with = "Option<Vec<schema::Choice<RetryOn>>>")]
    pub on: Option<Vec<Text>>,
    /// For the header of the answer to one attempt.
    #[schemars(with = "Option<schema::Duration>")]
    pub per_try_timeout: Option<Text>,
    /// How long is waited before the next attempt.
    pub backoff: Option<Backoff>,
    /// Requests with a larger body are not tried again.
    #[schemars(with = "Option<schema::Bytes>")]
    pub body_bytes: Option<Text>,
    /// When perTryTimeout passes, the attempt goes on beside the next. Default: false.
    #[schemars(with = "Option<schema::Boolean>")]
    pub hedge_on_per_try_timeout: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Backoff {
    /// The first wait is any up to this, the next up to 3, 7, 15 times this.
    #[schemars(with = "Option<schema::Duration>")]
    pub base_interval: Option<Text>,
    /// No wait is longer.
    #[schemars(with = "Option<schema::Duration>")]
    pub max_interval: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct RetryBudget {
    /// This share of the requests, from 0 to 100.
    #[schemars(with = "Option<schema::Percent>")]
    pub percent: Option<Text>,
    /// And in any case this many a second.
    #[schemars(with = "Option<schema::Count>")]
    pub min_retries_per_second: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct OutlierDetection {
    /// After so many 5xx answers or failures in a row; 0: never for that.
    #[schemars(with = "Option<schema::Count>")]
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<Text>,
    /// After so many 502, 503, 504 or failed connections in a row; 0: never for that.
    #[schemars(with = "Option<schema::Count>")]
    pub consecutive_gateway_errors: Option<Text>,
    /// How often rates are looked at and endpoints let back.
    #[schemars(with = "Option<schema::Duration>")]
    pub interval: Option<Text>,
    /// For how long the first time; the second time twice that, and so on.
    #[schemars(with = "Option<schema::Duration>")]
    pub base_ejection_time: Option<Text>,
    /// For how long at most.
    #[schemars(with = "Option<schema::Duration>")]
    pub max_ejection_time: Option<Text>,
    /// This share of the endpoints at most, though always one.
    #[schemars(with = "Option<schema::Percent>")]
    pub max_ejection_percent: Option<Text>,
    /// This share of the endpoints is never left out.
    #[schemars(with = "Option<schema::Percent>")]
    pub min_health_percent: Option<Text>,
    /// Left out when the share of good answers is below the mean by so many thousandths of the standard deviation.
    #[schemars(with = "Option<schema::Count>")]
    pub success_rate_stdev_factor: Option<Text>,
    /// Looked at only where so many endpoints have the volume.
    #[schemars(with = "Option<schema::Count>")]
    pub success_rate_minimum_hosts: Option<Text>,
    /// The requests that an endpoint needs in an interval.
    #[schemars(with = "Option<schema::Count>")]
    pub success_rate_request_volume: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct HealthCheck {
    /// A GET request.
    pub http: Option<HttpProbe>,
    /// A connection.
    pub tcp: Option<TcpProbe>,
    /// grpc.health.v1.Health/Check.
    pub grpc: Option<GrpcProbe>,
    /// How often.
    #[schemars(with = "Option<schema::Duration>")]
    pub interval: Option<Text>,
    /// For an answer.
    #[schemars(with = "Option<schema::Duration>")]
    pub timeout: Option<Text>,
    /// After so many bad answers an endpoint is unhealthy.
    #[schemars(with = "Option<schema::Count>")]
    pub unhealthy_threshold: Option<Text>,
    /// After so many good answers it is healthy again.
    #[schemars(with = "Option<schema::Count>")]
    pub healthy_threshold: Option<Text>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct HttpProbe {
    /// The path that is asked for.
    pub path: Text,
    /// The host. Default: the endpoint's address.
    pub host: Option<Text>,
    /// Which answers are good. Default: 200.
    #[schemars(with = "Option<Vec<schema::Count>>")]
    pub expected_statuses: Option<Vec<Text>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TcpProbe {}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct GrpcProbe {
    /// The service that is asked about. Default: the whole server.
    pub service: Option<Text>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RateLimit {
    /// So many,
    #[schemars(with = "schema::Count")]
    pub requests: Text,
    /// in this time. Default: 1s.
    #[schemars(with = "Option<schema::Duration>")]
    pub per: Option<Text>,
    /// How many at once. Default: requests.
    #[schemars(with = "Option<schema::Count>")]
    pub burst: Option<Text>,
    /// Requests that differ in this have buckets of their own. Without it: one bucket.
    pub key: Option<Spanned<RateLimitKey>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RateLimitKey {
    /// A header's value.
    pub header: Option<Text>,
    /// The client's address.
    #[schemars(with = "Option<schema::Choice<Source>>")]
    pub source: Option<Text>,
    /// A claim of the client's token.
    pub claim: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Fault {
    /// Requests wait.
    pub delay: Option<Delay>,
    /// Requests are answered with an error.
    pub abort: Option<Spanned<Abort>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(clippy::struct_field_names, reason = "the field is called as Istio calls it")]
pub(in crate::config) struct Delay {
    /// For how long.
    #[schemars(with = "schema::Duration")]
    pub fixed_delay: Text,
    /// This share of those with the headers, from 0 to 100.
    #[schemars(with = "Option<schema::Percent>")]
    pub percent: Option<Text>,
    /// All of these; empty: every request has them.
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Abort {
    /// With this status,
    #[schemars(with = "Option<schema::Count>")]
    pub http_status: Option<Text>,
    /// or with this gRPC status, by number or name.
    #[schemars(with = "Option<schema::NumberOrName>")]
    pub grpc_status: Option<Text>,
    /// This share of those with the headers, from 0 to 100.
    #[schemars(with = "Option<schema::Percent>")]
    pub percent: Option<Text>,
    /// All of these; empty: every request has them.
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeaderMatch {
    /// The header's name.
    pub name: Text,
    /// Its value. Without it: any.
    pub value: Option<Text>,
}
