//! The validated `TrafficPolicy`. Defaults are what Envoy and Istio take where a section leaves a field out.

use std::time::Duration;

use clap::ValueEnum;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery};
use serde::{Serialize, Serializer};

use super::super::model::display;
use super::super::target_ref::{ObjectName, TargetRef};
use super::super::value::duration;
use super::super::value::percent::Percent;

/// What is done to the traffic of some targets.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// Its name.
    pub name: ObjectName,
    /// What it is about. No section is said by two policies for one target.
    pub targets: Vec<TargetRef>,
    /// What it says.
    #[serde(flatten)]
    pub spec: TrafficSpec,
}

/// The sections of a policy. `None`: it says nothing about that.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSpec {
    /// Which endpoint a request goes to.
    pub load_balancer: Option<LoadBalancer>,
    /// How much may be under way.
    pub connection_pool: Option<ConnectionPool>,
    /// How long is waited.
    pub timeouts: Option<Timeouts>,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// How much is tried again.
    pub retry_budget: Option<RetryBudget>,
    /// Which endpoints are left out for their answers.
    pub outlier_detection: Option<OutlierDetection>,
    /// How endpoints are asked whether they are well.
    pub health_check: Option<HealthCheck>,
    /// How many requests are let in.
    pub rate_limit: Option<RateLimit>,
    /// What is made to go wrong.
    pub fault: Option<Fault>,
}

/// Which endpoint a request goes to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// How one is chosen.
    pub algorithm: Algorithm,
    /// How long the share of a new endpoint grows.
    #[serde(serialize_with = "duration::serialize_some")]
    pub slow_start: Option<Duration>,
    /// Endpoints of this zone are preferred.
    pub zone: Option<String>,
}

/// How an endpoint is chosen.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub enum Algorithm {
    /// In turn.
    RoundRobin,
    /// The less busy of two.
    #[default]
    LeastRequest,
    /// The one of two that answers sooner.
    PeakEwma,
    /// Any.
    Random,
    /// Always the same one for the same key.
    ConsistentHash(HashKey),
}

/// What a request is hashed by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HashKey {
    /// A header's value.
    #[serde(serialize_with = "display")]
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
    /// The client's address.
    Source,
}

/// Circuit breakers and the life of pooled connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionPool {
    /// Connections to all endpoints together.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests that are under way.
    pub max_requests: u32,
    /// Retries that are under way.
    pub max_retries: u32,
    /// How long a connection is kept without a request. Longer than the application's own keep-alive, and requests
    /// meet connections that it has just closed.
    #[serde(serialize_with = "duration::serialize")]
    pub idle_timeout: Duration,
    /// For a new connection; `None`: as `ProxyConfig` says.
    #[serde(serialize_with = "duration::serialize_some")]
    pub connect_timeout: Option<Duration>,
    /// After how many requests a connection is closed.
    pub max_requests_per_connection: Option<u32>,
}

/// How long is waited. `None`: not said here; zero: without end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// For a request with all its retries, to the end of its answer.
    #[serde(serialize_with = "duration::serialize_some")]
    pub request: Option<Duration>,
    /// For one attempt, to the end of its answer; no longer than `request`.
    #[serde(serialize_with = "duration::serialize_some")]
    pub backend_request: Option<Duration>,
    /// For more of either body, or an answer. `None`: as `ProxyConfig` says.
    #[serde(serialize_with = "duration::serialize_some")]
    pub idle: Option<Duration>,
}

/// What is tried again, and when. The default is Istio's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often, after the first time.
    pub attempts: u32,
    /// After which HTTP statuses; sorted.
    pub codes: Vec<u16>,
    /// After what else; sorted.
    pub on: Vec<RetryOn>,
    /// For the header of the answer to one attempt.
    #[serde(serialize_with = "duration::serialize_some")]
    pub per_try_timeout: Option<Duration>,
    /// The first wait is any up to this, the next up to 3, 7, 15 times this, and so on (Envoy); not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub base_interval: Duration,
    /// No wait is longer.
    #[serde(serialize_with = "duration::serialize")]
    pub max_interval: Duration,
    /// Requests with a larger body are not tried again.
    pub body_bytes: usize,
    /// When `per_try_timeout` passes, the attempt goes on beside the next; only with such a time-out.
    pub hedge_on_per_try_timeout: bool,
}

/// After what a request is tried again, in Envoy's words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// No connection came about.
    ConnectFailure,
    /// The upstream said that it did not act on the request (HTTP/2 REFUSED_STREAM).
    RefusedStream,
    /// The connection broke before the request was sent.
    ResetBeforeRequest,
    /// The connection broke before there was an answer, or there was none in time.
    Reset,
    /// A status of 500 to 599, or no answer at all.
    #[serde(rename = "5xx")]
    #[value(name = "5xx")]
    ServerError,
    /// Status 502, 503 or 504.
    GatewayError,
    /// Status 409.
    #[serde(rename = "retriable-4xx")]
    #[value(name = "retriable-4xx")]
    Retriable4xx,
    /// gRPC status 1.
    Cancelled,
    /// gRPC status 4.
    DeadlineExceeded,
    /// gRPC status 8.
    ResourceExhausted,
    /// gRPC status 13.
    Internal,
    /// gRPC status 14.
    Unavailable,
}

/// How many requests may be retries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// This share of the requests.
    pub percent: Percent,
    /// And in any case this many a second.
    pub min_retries_per_second: u32,
}

/// Which endpoints are left out for a while for how they answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// After so many 5xx answers or failures in a row; 0: never for that.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: u32,
    /// After so many 502, 503, 504 or failed connections in a row; 0: never for that.
    pub consecutive_gateway_errors: u32,
    /// How often rates are looked at and endpoints let back; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub interval: Duration,
    /// For how long the first time; the second time twice that, and so on.
    #[serde(serialize_with = "duration::serialize")]
    pub base_ejection_time: Duration,
    /// For how long at most.
    #[serde(serialize_with = "duration::serialize")]
    pub max_ejection_time: Duration,
    /// This share of the endpoints at most, though always one.
    pub max_ejection_percent: Percent,
    /// This share of the endpoints is never left out.
    pub min_health_percent: Percent,
    /// Endpoints whose share of good answers is far from the others'.
    pub success_rate: Option<SuccessRate>,
}

/// When an endpoint's share of good answers in an interval is far from the others'.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRate {
    /// Below the mean by so many thousandths of the standard deviation.
    pub stdev_factor: u32,
    /// Looked at only where so many endpoints have the volume.
    pub minimum_hosts: u32,
    /// The requests that an endpoint needs in an interval.
    pub request_volume: u32,
}

/// How endpoints are asked whether they are well. The defaults are Envoy Gateway's, but for the first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// How often; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub interval: Duration,
    /// For an answer; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// After so many bad answers an endpoint is unhealthy; not 0.
    pub unhealthy_threshold: u32,
    /// After so many good answers it is healthy again; not 0.
    pub healthy_threshold: u32,
}

/// What a health check asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// A GET request.
    #[serde(rename_all = "camelCase")]
    Http {
        /// Of this path.
        #[serde(serialize_with = "display")]
        path: PathAndQuery,
        /// With this host; `None`: the endpoint's address.
        #[serde(serialize_with = "display_some")]
        host: Option<Authority>,
        /// Which answers are good; sorted, not empty.
        expected_statuses: Vec<u16>,
    },
    /// A connection.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Of this service; empty: the whole server.
        service: String,
    },
}

/// How many requests are let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// So many, not 0,
    pub requests: u32,
    /// in this time; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub per: Duration,
    /// How many at once: the size of the bucket; not 0, by default `requests`.
    pub burst: u32,
    /// Requests that differ in this have buckets of their own; `None`: there is one bucket.
    pub key: Option<RateLimitKey>,
}

/// In what requests differ that have buckets of their own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RateLimitKey {
    /// A header's value.
    #[serde(serialize_with = "display")]
    Header(HeaderName),
    /// The client's address.
    Source,
    /// A claim of the client's token.
    Claim(String),
}

/// What is made to go wrong.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Requests wait.
    pub delay: Option<Delay>,
    /// Requests are answered with an error.
    pub abort: Option<Abort>,
}

/// Requests that wait.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delay {
    /// For how long; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub fixed_delay: Duration,
    /// This share of those with the headers.
    pub percent: Percent,
    /// All of these; empty: every request has them.
    pub headers: Vec<HeaderMatch>,
}

/// Requests that are answered with an error.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Abort {
    /// With which.
    #[serde(flatten)]
    pub status: AbortStatus,
    /// This share of those with the headers.
    pub percent: Percent,
    /// All of these; empty: every request has them.
    pub headers: Vec<HeaderMatch>,
}

/// The error that a request is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AbortStatus {
    /// From 200 to 599.
    HttpStatus(u16),
    /// From 0 to 16.
    GrpcStatus(u8),
}

/// A header that a request must have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HeaderMatch {
    /// Its name.
    #[serde(serialize_with = "display")]
    pub name: HeaderName,
    /// Its value; `None`: any.
    #[serde(serialize_with = "text_of")]
    pub value: Option<HeaderValue>,
}

// === impl ===

impl TrafficSpec {
    /// Takes over what `other` says and this does not.
    pub fn fill(&mut self, other: &Self) {
        fill(&mut self.load_balancer, other.load_balancer.as_ref());
        fill(&mut self.connection_pool, other.connection_pool.as_ref());
        fill(&mut self.timeouts, other.timeouts.as_ref());
        fill(&mut self.retry, other.retry.as_ref());
        fill(&mut self.retry_budget, other.retry_budget.as_ref());
        fill(&mut self.outlier_detection, other.outlier_detection.as_ref());
        fill(&mut self.health_check, other.health_check.as_ref());
        fill(&mut self.rate_limit, other.rate_limit.as_ref());
        fill(&mut self.fault, other.fault.as_ref());
    }
}

fn fill<T: Clone>(mine: &mut Option<T>, theirs: Option<&T>) {
    if mine.is_none() {
        *mine = theirs.cloned();
    }
}

impl Default for ConnectionPool {
    /// The limits are Envoy's. Four seconds are less than the 5 s after which Node.js closes an idle connection.
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            idle_timeout: Duration::from_secs(4),
            connect_timeout: None,
            max_requests_per_connection: None,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            codes: Vec::new(),
            on: vec![
                RetryOn::ConnectFailure,
                RetryOn::RefusedStream,
                RetryOn::Cancelled,
                RetryOn::Unavailable,
            ],
            per_try_timeout: None,
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            body_bytes: 64 * 1024,
            hedge_on_per_try_timeout: false,
        }
    }
}

impl Default for RetryBudget {
    /// The share is that of Envoy and of the Gateway API, the rate that of the Gateway API and of Linkerd.
    fn default() -> Self {
        Self { percent: Percent::whole(20), min_retries_per_second: 10 }
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx_errors: 5,
            consecutive_gateway_errors: 0,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: Percent::whole(10),
            min_health_percent: Percent::whole(0),
            success_rate: None,
        }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { stdev_factor: 1_900, minimum_hosts: 5, request_volume: 100 }
    }
}

impl HealthCheck {
    /// A check with the default times and thresholds.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 1,
        }
    }
}

#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
fn display_some<S: Serializer>(value: &Option<Authority>, to: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(Authority::as_str).serialize(to)
}

#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
fn text_of<S: Serializer>(value: &Option<HeaderValue>, to: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes())).serialize(to)
}
