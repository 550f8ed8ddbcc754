//! A request that a rule was found for: its filters, its backend, and as many attempts as it takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};

use super::body::Flow;
use super::plan::Plan;
use super::policies::{Policies, Stop};
use super::record::Record;
use super::reply::Reply;
use super::serve::Client;
use super::upstream::{Sent, Unsent};
use super::watch::Over;
use super::{Version, headers, pool};
use crate::config::Protocol;
use crate::config::route::{BackendRef, BackendTarget, Cors, Filter, HeaderEdits, Mirror, Rewrite};
use crate::policy::retry::{Attempt, Outcome, retry_after};
use crate::route::{Found, cors, redirect, rewrite, weights};
use crate::upstream::cluster::Cluster;
use crate::upstream::outlier;

/// How long a mirror may take.
const MIRROR_TIME: Duration = Duration::from_secs(10);
/// What of a mirror's answer is read.
const MIRROR_BYTES: usize = 64 * 1024;

/// What filters left to be done.
#[derive(Default)]
pub(super) struct Later<'a> {
    response: Vec<&'a HeaderEdits>,
    cors: Option<(&'a Cors, Option<HeaderValue>)>,
    mirrors: Vec<&'a Mirror>,
}

/// Does what a rule's filters say; some of them answer.
pub(super) fn filter<'a>(
    client: &Client,
    plan: &'a Plan,
    found: &Found<'_>,
    filters: &'a [Filter],
    parts: &mut request::Parts,
    authority: &mut Option<Authority>,
    later: &mut Later<'a>,
) -> Result<(), Stop> {
    let answer = |response: Response<Flow>, reason, flags| {
        Err(Stop::Answer(Reply::new(response.status(), reason, flags), Box::new(response)))
    };
    for filter in filters {
        match filter {
            Filter::RequestHeaders(edits) => crate::route::headers::apply(edits, &mut parts.headers),
            Filter::ResponseHeaders(edits) => later.response.push(edits),
            Filter::Mirror(mirror) => later.mirrors.push(mirror),
            Filter::Cors(cors) => {
                if let Some(fields) = cors::preflight(cors, &parts.method, &parts.headers) {
                    let mut response = Response::new(Flow::empty());
                    *response.status_mut() = StatusCode::NO_CONTENT;
                    *response.headers_mut() = fields;
                    return answer(response, "cors-preflight", "");
                }
                later.cors = Some((cors, parts.headers.get(header::ORIGIN).cloned()));
            }
            Filter::Redirect(to) => {
                let source = redirect::Source {
                    scheme: "http",
                    host: authority.as_ref().map(Authority::as_str),
                    port: client.port(),
                    path: parts.uri.path(),
                    query: parts.uri.query(),
                };
                let location = redirect::location(to, found.matched, &source)
                    .and_then(|location| HeaderValue::try_from(location).ok());
                let Some(location) = location else {
                    return Err(Reply::new(StatusCode::BAD_REQUEST, "host", "DPE").into());
                };
                let mut response = Response::new(Flow::empty());
                *response.status_mut() = StatusCode::from_u16(to.status).unwrap_or(StatusCode::FOUND);
                response.headers_mut().insert(header::LOCATION, location);
                return answer(response, "redirect", "");
            }
            Filter::Rewrite(to) => rewritten(to, found, parts, authority)?,
            Filter::Respond(name) => {
                let Some(fixed) = plan.response(name) else {
                    return Err(
                        Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "no-direct-response", "NR").into()
                    );
                };
                let mut response = Response::new(Flow::of(fixed.body.clone()));
                *response.status_mut() = StatusCode::from_u16(fixed.status).unwrap_or(StatusCode::OK);
                for (name, value) in &fixed.headers {
                    response.headers_mut().append(name.clone(), value.clone());
                }
                return answer(response, "direct-response", "");
            }
        }
    }
    Ok(())
}

fn rewritten(
    to: &Rewrite,
    found: &Found<'_>,
    parts: &mut request::Parts,
    authority: &mut Option<Authority>,
) -> Result<(), Stop> {
    let bad = || Stop::from(Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "rewrite", "NR"));
    if let Some(edit) = &to.path {
        let target = rewrite::path_and_query(Some(edit), found.matched, parts.uri.path(), parts.uri.query());
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(target.parse().map_err(|_| bad())?);
        parts.uri = hyper::Uri::from_parts(uri).map_err(|_| bad())?;
    }
    if let Some(host) = &to.hostname {
        let new: Authority = host.parse().map_err(|_| bad())?;
        parts.headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| bad())?);
        if parts.uri.authority().is_some() {
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            uri.authority = Some(new.clone());
            parts.uri = hyper::Uri::from_parts(uri).map_err(|_| bad())?;
        }
        *authority = Some(new);
    }
    Ok(())
}

/// One of the rule's backends, by weight.
pub(super) fn backend(backends: &[BackendRef]) -> Result<&BackendRef, Stop> {
    weights::pick(backends, fastrand::u32(..))
        .ok_or_else(|| Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "no-backend", "NR").into())
}

/// Who serves it.
pub(super) fn cluster<'a>(plan: &'a Plan, target: &BackendTarget) -> Result<&'a Arc<Cluster>, Stop> {
    plan.cluster(target)
        .ok_or_else(|| Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "invalid-backend", "NC").into())
}

/// Sends a request to a cluster, again where its policies say so.
pub(super) async fn send(
    client: &Arc<Client>,
    record: &mut Record,
    cluster: &Arc<Cluster>,
    policies: Option<&Policies>,
    mut parts: request::Parts,
    body: Incoming,
    authority: Option<&Authority>,
) -> Result<Sent, Stop> {
    record.limit(policies);
    let version = match cluster.protocol {
        Protocol::Http1 => Version::Http1,
        Protocol::Http2 | Protocol::Grpc => Version::Http2,
        Protocol::Auto | Protocol::Tcp => client.version,
    };
    headers::for_version(version, &mut parts, authority);
    let overflow = || Stop::from(Reply::new(StatusCode::SERVICE_UNAVAILABLE, "overflow", "UO"));
    let mut permit = match &cluster.circuit {
        Some(circuit) => Some(circuit.requests.acquire().ok_or_else(overflow)?),
        None => None,
    };
    let retry = policies.and_then(|policies| policies.retry.as_ref());
    let keep = retry.map_or(0, |retry| retry.config().body_bytes);
    let mut body = Kept::new(body, keep, record).await?;
    let idempotent = is_idempotent(&parts.method);
    let budget = policies.and_then(|policies| policies.budget.as_ref());
    if let Some(budget) = budget {
        budget.request(Instant::now().into_std());
    }
    let (mut retries, mut tried, mut permits) = (0, Vec::new(), None);
    loop {
        let Some(chosen) = cluster.pick(&parts.headers, client.accepted.peer, &tried) else {
            return Err(Reply::new(StatusCode::SERVICE_UNAVAILABLE, "no-healthy-upstream", "UH").into());
        };
        record.attempt(|| chosen.endpoint.name.clone());
        let replayable = body.is_replayable();
        let request = Request::from_parts(parts.clone(), body.take());
        let sending = pool::send(client, cluster, &chosen, version, request);
        let whole = policies.and_then(|policies| policies.backend_timeout);
        let until = whole.map(|limit| Instant::now() + limit);
        let header = policies.and_then(|policies| policies.try_timeout);
        let sent = match header.into_iter().chain(whole).min() {
            Some(limit) => timeout(limit, sending).await.unwrap_or_else(|_| {
                Err(Unsent { outcome: Outcome::Timeout, reply: Over::Attempt.reply(), is_theirs: true })
            }),
            None => sending.await,
        };
        drop(permits.take());
        let outcome = match &sent {
            Ok(sent) => {
                let status = sent.response.status().as_u16();
                chosen.record(outlier::Outcome::of_status(status));
                let grpc = sent.response.headers().get("grpc-status");
                let grpc_status = grpc.and_then(|status| status.to_str().ok()?.parse().ok());
                Outcome::Response { status, grpc_status }
            }
            Err(unsent) if unsent.is_theirs => {
                chosen.record(outlier::Outcome::GatewayError);
                unsent.outcome
            }
            Err(_) => return finished(sent, retries, false),
        };
        let again = retry.filter(|retry| retry.decide(Attempt { retries, idempotent, replayable }, outcome));
        let Some(retry) = again else {
            if let Some(until) = until {
                record.watched().limit_until(until, Over::Attempt);
            }
            return finished(sent, retries, retry.is_some()).map(|mut sent| {
                if let Some(lease) = &mut sent.lease {
                    lease.hold(permit.take());
                }
                sent
            });
        };
        let held = cluster.circuit.as_ref().map(|circuit| circuit.retries.acquire());
        let paid = budget.map(|budget| budget.retry(Instant::now().into_std()));
        if matches!(held, Some(None)) || matches!(paid, Some(None)) {
            record.flag("URX");
            return finished(sent, retries, false);
        }
        let asked = sent.as_ref().ok().and_then(|sent| retry_after(sent.response.headers()));
        let Some(wait) = retry.wait(retries + 1, asked, &mut fastrand::Rng::new()) else {
            return finished(sent, retries, false);
        };
        permits = Some((held, paid));
        drop(sent);
        tried.push(chosen.endpoint.id);
        retries += 1;
        client.common().retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        sleep(wait).await;
    }
}

fn finished(sent: Result<Sent, Unsent>, retries: u32, limit: bool) -> Result<Sent, Stop> {
    sent.map_err(|unsent| {
        let flags = if limit && retries > 0 { "URX" } else { unsent.reply.flags };
        Reply { flags, ..unsent.reply }.into()
    })
}

/// What filters left to be done with an answer.
pub(super) fn after(later: &Later<'_>, fields: &mut HeaderMap) {
    for edits in &later.response {
        crate::route::headers::apply(edits, fields);
    }
    if let Some((cors, origin)) = &later.cors {
        cors::response(cors, origin.as_ref(), fields);
    }
}

/// Sends copies of a request to mirrors, whose answers nobody hears. A request whose body is to be streamed has none.
pub(super) fn mirror(
    client: &Arc<Client>,
    plan: &Plan,
    later: &Later<'_>,
    parts: &request::Parts,
    body: &Incoming,
) {
    for mirror in &later.mirrors {
        let drawn = fastrand::u32(0..mirror.fraction.denominator.max(1)) < mirror.fraction.numerator;
        let Some(cluster) = plan.cluster(&mirror.backend).filter(|_| drawn && body.is_end_stream()) else {
            continue;
        };
        let (client, cluster, mut parts) = (Arc::clone(client), Arc::clone(cluster), parts.clone());
        tokio::spawn(async move {
            let authority = headers::authority(&parts);
            let version = match cluster.protocol {
                Protocol::Http2 | Protocol::Grpc => Version::Http2,
                _ => Version::Http1,
            };
            headers::for_version(version, &mut parts, authority.as_ref());
            let Some(chosen) = cluster.pick(&parts.headers, client.accepted.peer, &[]) else { return };
            let request = Request::from_parts(parts, Flow::empty());
            let sending = async {
                let Ok(Sent { response, lease }) =
                    pool::send(&client, &cluster, &chosen, version, request).await
                else {
                    return;
                };
                let read = Limited::new(response.into_body(), MIRROR_BYTES).collect().await;
                if let (Ok(_), Some(lease)) = (read, lease) {
                    lease.give_back();
                }
            };
            // Nobody waits for it, so it must not last.
            let _ = timeout(MIRROR_TIME, sending).await;
        });
    }
}

/// A request's body, kept where it may be sent again.
enum Kept {
    Whole(Bytes),
    Once(Option<Flow>),
}

impl Kept {
    /// Bodies of up to so many bytes are kept, where their length is known.
    async fn new(body: Incoming, most: usize, record: &Record) -> Result<Self, Stop> {
        if body.is_end_stream() {
            return Ok(Self::Whole(Bytes::new()));
        }
        let known = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let watched = record.watched();
        if known.is_none_or(|length| length > most) {
            return Ok(Self::Once(Some(Flow::Up(body, Arc::clone(watched)))));
        }
        let gone = |_| Stop::from(Reply::new(StatusCode::BAD_REQUEST, "request-body", "DC"));
        let whole = Flow::Up(body, Arc::clone(watched)).collect().await.map_err(gone)?.to_bytes();
        Ok(Self::Whole(whole))
    }

    fn is_replayable(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    fn take(&mut self) -> Flow {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => Flow::empty(),
            Self::Whole(bytes) => Flow::of(bytes.clone()),
            Self::Once(flow) => flow.take().unwrap_or_else(Flow::empty),
        }
    }
}

/// RFC 9110 section 9.2.2
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}
