//! What is decided about a request on its way, apart from where it goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request;
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Response, StatusCode, Uri};
use tokio::time::sleep;

use super::body::Flow;
use super::client::Client;
use super::limiters::{Limit, Limiters};
use super::reply::{Reply, is_grpc};
use crate::config::route::HttpRule;
use crate::config::traffic::{self, AbortStatus, Fault, RetryOn};
use crate::config::{Config, TargetRef};
use crate::policy::access::{Access, Answer, Facts, KeyStores, Question, Verdict};
use crate::policy::rate_limit::key;
use crate::policy::retry::RetryPolicy;
use crate::policy::retry_budget::RetryBudget;
use crate::policy::{fault, path};

/// The policies of one rule in one place, or of a place.
pub(super) struct Policies {
    access: Option<Access>,
    rate: Option<Limit>,
    fault: Option<Fault>,
    /// For all attempts together, to the end of the answer.
    pub request_timeout: Option<Duration>,
    /// For one attempt, to the end of the answer (GEP-1742).
    pub backend_timeout: Option<Duration>,
    /// For one attempt, until its answer begins (Envoy).
    pub try_timeout: Option<Duration>,
    /// For a piece of either body; zero: without end.
    pub idle: Option<Duration>,
    /// When a request is sent again.
    pub retry: Option<RetryPolicy>,
    /// How many are, of all.
    pub budget: Option<Arc<RetryBudget>>,
}

/// The proxy answers in the upstream's place.
pub(super) enum Stop {
    /// By a status and a reason, with these fields.
    Reply(Reply, Option<Box<HeaderMap>>),
    /// So.
    Answer(Reply, Box<Response<Flow>>),
}

impl From<Reply> for Stop {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply, None)
    }
}

impl Policies {
    /// Those of these targets, the most specific first, under what the rule itself says.
    pub(super) fn new(
        config: &Config,
        keys: &KeyStores,
        limiters: &mut Limiters,
        targets: &[TargetRef],
        rule: Option<&Arc<HttpRule>>,
    ) -> Self {
        let spec = config.traffic_of(targets);
        let about = |of: &[TargetRef]| of.iter().any(|target| targets.contains(target));
        let access: Vec<_> = config.access.iter().filter(|policy| about(&policy.targets)).collect();
        let timeouts = spec.timeouts.unwrap_or_default();
        let of_rule = rule.map(|rule| rule.timeouts).unwrap_or_default();
        let retry = match rule.and_then(|rule| rule.retry.as_ref()) {
            Some(retry) => Some(of_route(retry)),
            None => spec.retry,
        };
        let set = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        Self {
            access: (!access.is_empty()).then(|| Access::new(&access, keys)),
            rate: limiters.of(config, targets),
            fault: spec.fault,
            request_timeout: set(of_rule.request.or(timeouts.request)),
            backend_timeout: set(of_rule.backend_request.or(timeouts.backend_request)),
            try_timeout: retry.as_ref().and_then(|retry| retry.per_try_timeout),
            idle: timeouts.idle,
            retry: retry.map(RetryPolicy::new),
            budget: spec.retry_budget.map(|config| Arc::new(RetryBudget::new(config, Instant::now()))),
        }
    }

    /// Who asks is asked.
    pub(super) fn has_access(&self) -> bool {
        self.access.is_some()
    }

    /// It says how long a request may take, or how often it may be tried.
    pub(super) fn says_when(&self) -> bool {
        let times = [self.request_timeout, self.backend_timeout, self.try_timeout, self.idle];
        times.iter().any(Option::is_some) || self.retry.is_some()
    }

    /// Lets a request pass, or not. First who asks, since limits may be theirs; then how much; what is made to go wrong is
    /// last, so that it is no way around the others.
    pub(super) async fn admit(
        &self,
        client: &Client,
        parts: &mut request::Parts,
        authority: Option<&Authority>,
    ) -> Result<(), Stop> {
        let source = client.accepted.peer.ip().to_canonical();
        let mut claims = None;
        if let Some(access) = &self.access {
            claims = authorise(access, client, parts, authority).await?;
        }
        if let Some((limiter, by)) = &self.rate {
            let claim = |name: &str| claim_of(claims.as_deref()?, name);
            let key = key::key_of(by.as_ref(), &parts.headers, source, claim);
            let decision = limiter.check(&key, Instant::now());
            if !decision.allowed {
                client.common().limited.fetch_add(1, Ordering::Relaxed);
                let mut fields = HeaderMap::new();
                decision.apply(&mut fields);
                let reply = Reply::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", "RL");
                return Err(Stop::Reply(reply, Some(Box::new(fields))));
            }
        }
        if let Some(fault) = &self.fault {
            let injected = fault::decide(fault, &parts.headers, &mut fastrand::Rng::new());
            if let Some(delay) = injected.delay {
                sleep(delay).await;
            }
            if let Some(abort) = injected.abort {
                return Err(aborted(abort, &parts.headers));
            }
        }
        Ok(())
    }
}

/// Its path means one thing to some servers, and another to others.
fn bad() -> Stop {
    Reply::new(StatusCode::BAD_REQUEST, "ambiguous-path", "DPE").into()
}

/// Gives a path one form before a rule is looked for, so that routes and policies and the upstream see the same one. Whether
/// encoded slashes may pass is each policy's to say.
pub(super) fn normalise(parts: &mut request::Parts) -> Result<(), Stop> {
    let path = path::normalise(parts.uri.path(), true).map_err(|_| bad())?;
    if path != parts.uri.path() {
        parts.uri = with_path(&parts.uri, &path).ok_or_else(bad)?;
    }
    Ok(())
}

/// By the policy's rules and authorizers. Whose it is, where that is known.
async fn authorise(
    access: &Access,
    client: &Client,
    parts: &mut request::Parts,
    authority: Option<&Authority>,
) -> Result<Option<Arc<serde_json::Value>>, Stop> {
    // It has its one form already, in which this policy may yet refuse what others let pass.
    let path = access.normalise(parts.uri.path()).map_err(|_| bad())?;
    let host = authority.map(Authority::as_str);
    let source = client.accepted.peer.ip().to_canonical();
    let facts = Facts {
        source,
        method: &parts.method,
        path: &path,
        host,
        port: client.port(),
        headers: &parts.headers,
    };
    let claims = match access.evaluate(&facts, SystemTime::now()) {
        Verdict::Allow { identity, set_headers, remove_headers } => {
            apply(&mut parts.headers, &remove_headers, set_headers);
            identity.map(|identity| identity.claims)
        }
        Verdict::Refuse { status, reason, www_authenticate } => {
            let mut fields = HeaderMap::new();
            if let Some(challenge) = www_authenticate {
                fields.insert(hyper::header::WWW_AUTHENTICATE, challenge);
            }
            tracing::debug!(id = %client.accepted.id, reason, "access");
            let reason = if status == StatusCode::UNAUTHORIZED { "unauthenticated" } else { "access-denied" };
            return Err(Stop::Reply(Reply::new(status, reason, "UAEX"), Some(Box::new(fields))));
        }
    };
    if access.asks() {
        let question = Question {
            method: &parts.method,
            path_and_query: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            host,
            scheme: "http",
            source,
            headers: &parts.headers,
        };
        match access.ask(&question).await {
            Answer::Allow { remove_headers, set_headers } => {
                apply(&mut parts.headers, &remove_headers, set_headers);
            }
            Answer::Refuse(response) => {
                let reply = Reply::new(response.status(), "external-authorization", "UAEX");
                return Err(Stop::Answer(reply, Box::new(response.map(Flow::of))));
            }
        }
    }
    Ok(claims)
}

fn apply(headers: &mut HeaderMap, remove: &[HeaderName], set: Vec<(HeaderName, HeaderValue)>) {
    for name in remove {
        headers.remove(name);
    }
    for (name, value) in set {
        headers.append(name, value);
    }
}

/// The same target with another path.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn claim_of(claims: &serde_json::Value, name: &str) -> Option<String> {
    match claims.get(name)? {
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn aborted(abort: AbortStatus, headers: &HeaderMap) -> Stop {
    match abort {
        AbortStatus::HttpStatus(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            Reply::new(status, "fault-injected", "FI").into()
        }
        AbortStatus::GrpcStatus(status) => {
            let reply = Reply::new(StatusCode::OK, "fault-injected", "FI");
            let mut response = reply.response(is_grpc(headers));
            if is_grpc(headers) {
                response.headers_mut().insert("grpc-status", HeaderValue::from(u16::from(status)));
            }
            Stop::Answer(reply, Box::new(response))
        }
    }
}

/// What a route says of retries (GEP-1731): besides its codes, attempts that came to nothing.
fn of_route(retry: &crate::config::route::Retry) -> traffic::Retry {
    let plain = traffic::Retry::default();
    let mut on = plain.on.clone();
    on.extend([RetryOn::Reset, RetryOn::ResetBeforeRequest]);
    traffic::Retry {
        attempts: retry.attempts,
        codes: retry.codes.clone(),
        on,
        base_interval: retry.backoff.unwrap_or(plain.base_interval),
        max_interval: retry.backoff.map_or(plain.max_interval, |base| base * 10),
        ..plain
    }
}
