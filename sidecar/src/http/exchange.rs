//! One request: what is decided about it, in which order, and its answer.

use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request;
use hyper::http::uri::Authority;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};

use super::body::Flow;
use super::client::Client;
use super::mirror::mirror;
use super::plan::Plan;
use super::policies::{self, Stop};
use super::record::Record;
use super::reply::{Reply, is_grpc};
use super::routed::{self, Later};
use super::upstream::{Lease, Sent};
use super::{Version, attempts, headers, own, tunnel};
use crate::config::TargetRef;
use crate::config::route::BackendTarget;
use crate::connection::Ingress;
use crate::route::{RequestParts, RouteSet};

/// What a request comes to.
pub(super) enum Answer {
    /// The proxy's word.
    Own(Response<Flow>),
    /// The upstream's, and where its connection goes.
    Theirs(Response<Incoming>, Option<Lease>),
    /// Both go on in another protocol.
    Switched(Response<Incoming>, tunnel::Both),
}

/// Serves a request. Never fails: what goes wrong is an answer.
///
/// The order: its name and trace, so that whatever is said of it can be found; what no request may be; its rule; who asks, how
/// much, and what is made to go wrong; what its rule changes; then what is for this hop only goes, and it is sent.
pub(super) async fn exchange(client: Arc<Client>, mut request: Request<Incoming>) -> Response<Flow> {
    let active = client.begin();
    let interims = client.guard.as_ref().filter(|_| request.version() == hyper::Version::HTTP_11);
    let turn = interims.map(|guard| guard.interims.begin(&mut request));
    let connects = *request.method() == Method::CONNECT && client.accepted.settings.allow_connect;
    let asks = connects || headers::asks_to_upgrade(request.headers());
    let upgrade = request.version() == hyper::Version::HTTP_11 && asks;
    let passed_on = upgrade && !headers::asks_for_h2c(request.headers());
    let ours = passed_on.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    headers::identify(&mut parts.headers);
    let mut record = Record::new(&client, &parts);
    let (grpc, head) = (is_grpc(&parts.headers), parts.method == Method::HEAD);
    let watched = Arc::clone(record.watched());
    let decided = {
        let body = Flow::up(body, &record, &client);
        let deciding = pin!(decide(&client, &mut record, parts, body, ours));
        watched.within(deciding).await
    };
    let answer = match decided.unwrap_or_else(|over| Err(over.reply().into())) {
        Ok(answer) => answer,
        Err(stop) => Answer::Own(stopped(stop, &mut record, grpc, head)),
    };
    let (mut response, switched) = match answer {
        Answer::Own(response) => (response, false),
        Answer::Theirs(response, lease) => {
            record.answered(response.status(), response.headers());
            (response.map(|body| Flow::down(body, lease, record, active)), false)
        }
        Answer::Switched(response, both) => {
            record.answered(response.status(), response.headers());
            // It lasts as long as both sides like.
            watched.end();
            tunnel::begin(&client, both, record, active);
            (response.map(|_| Flow::empty()), true)
        }
    };
    if let Some(turn) = turn {
        turn.end(client.is_flushed());
    }
    // What comes after a request that asks to upgrade waits for its own answer, not that of one before it.
    if upgrade && let Some(guard) = &client.guard {
        guard.decide(switched);
    }
    if client.version == Version::Http2 {
        response.headers_mut().remove(header::CONNECTION);
    }
    response
}

/// `head`: what is said has no body on its way (RFC 9110 section 9.3.2).
fn stopped(stop: Stop, record: &mut Record, grpc: bool, head: bool) -> Response<Flow> {
    let (reply, response) = match stop {
        Stop::Reply(reply, fields) => {
            let mut response = reply.response(grpc);
            response.headers_mut().extend(fields.map(|fields| *fields).unwrap_or_default());
            (reply, response)
        }
        Stop::Answer(reply, mut response) => {
            response.headers_mut().insert(headers::REASON, HeaderValue::from_static(reply.reason));
            (reply, *response)
        }
    };
    record.replied(reply);
    record.own(&response, head);
    record.finish();
    response
}

async fn decide(
    client: &Arc<Client>,
    record: &mut Record,
    mut parts: request::Parts,
    body: Flow,
    ours: Option<OnUpgrade>,
) -> Result<Answer, Stop> {
    let connects = parts.method == Method::CONNECT;
    if connects && ours.is_none() {
        return Err(no_connect());
    }
    if !headers::has_clear_host(&parts) {
        return Err(Reply::new(StatusCode::BAD_REQUEST, "host", "DPE").into());
    }
    let common = client.common();
    let plan = common.plan();
    if plan.has_access {
        policies::normalise(&mut parts)?;
    }
    let authority = headers::authority(&parts);
    headers::remove_hop_by_hop(&mut parts.headers, ours.is_some() && !connects);
    let (place, set) = way(client, &plan, authority.as_ref());
    // What goes through it is seen by no rule and no policy.
    let decided_about = || set.is_some() || place.as_ref().is_some_and(|at| plan.policies_at(at).is_some());
    if connects && (matches!(client.accepted.ingress, Ingress::Listener(_)) || decided_about()) {
        return Err(no_connect());
    }
    if let Some(set) = set {
        return by_rule(client, record, &plan, set, parts, body, authority, ours).await;
    }
    let policies = place.and_then(|place| plan.policies_at(&place)).map(|policies| &**policies);
    if let Some(policies) = policies {
        policies.admit(client, &mut parts, authority.as_ref()).await?;
    }
    let Ingress::Listener(front) = &client.accepted.ingress else {
        record.goes(&common.passthrough, &common.passthrough);
        record.limit(policies);
        return through(client, record, parts, body, authority.as_ref(), ours).await;
    };
    let Some(forward) = &front.forward else {
        return Err(Reply::new(StatusCode::NOT_FOUND, "no-route", "NR").into());
    };
    let target = BackendTarget::Backend(forward.name().to_owned());
    let cluster = routed::cluster(&plan, &target)?;
    record.goes(&common.passthrough, &cluster.name);
    let of_backend = plan.policies_of(&target).map(|policies| &**policies);
    if let Some(policies) = of_backend {
        policies.admit(client, &mut parts, authority.as_ref()).await?;
    }
    let policies = policies.filter(|policies| policies.says_when()).or(of_backend);
    on_its_way(client, &mut parts, authority.as_ref());
    let answer = attempts::send(client, record, cluster, policies, parts, body, authority.as_ref()).await?;
    conclude(client, answer, ours)
}

fn no_connect() -> Stop {
    Reply::new(StatusCode::METHOD_NOT_ALLOWED, "connect-not-allowed", "NR").into()
}

/// Where a request came in, and the rules there; `None`: it goes where its client meant it to.
fn way<'a>(
    client: &Client,
    plan: &'a Plan,
    authority: Option<&Authority>,
) -> (Option<TargetRef>, Option<&'a RouteSet>) {
    match (&client.accepted.ingress, client.destination) {
        (Ingress::Listener(front), _) => {
            (Some(TargetRef::Listener(front.name.clone())), plan.table.of_listener(&front.name))
        }
        (Ingress::Inbound, Some(address)) => {
            (Some(TargetRef::Inbound(address.port())), plan.table.of_inbound(address.port()))
        }
        (Ingress::Outbound, Some(address)) => {
            (None, plan.table.of_outbound(authority.map(Authority::as_str), address))
        }
        (_, None) => (None, None),
    }
}

/// As the rules say.
#[expect(clippy::too_many_arguments, reason = "a request in its parts")]
async fn by_rule(
    client: &Arc<Client>,
    record: &mut Record,
    plan: &Plan,
    set: &RouteSet,
    mut parts: request::Parts,
    body: Flow,
    mut authority: Option<Authority>,
    ours: Option<OnUpgrade>,
) -> Result<Answer, Stop> {
    let request = RequestParts {
        method: &parts.method,
        host: authority.as_ref().map(Authority::as_str),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    let Some(found) = set.find(&request) else {
        return Err(Reply::new(StatusCode::NOT_FOUND, "no-route", "NR").into());
    };
    record.goes(found.route, &client.none);
    let policies = plan.policies(found.rule).map(|policies| &**policies);
    if let Some(policies) = policies {
        policies.admit(client, &mut parts, authority.as_ref()).await?;
    }
    let mut later = Later::default();
    routed::filter(client, plan, &found, &found.rule.filters, &mut parts, &mut authority, &mut later)?;
    // The workload's own port needs no backend: it is one.
    if found.rule.backends.is_empty() && matches!(set.place(), TargetRef::Inbound(_)) {
        record.goes(found.route, &client.common().passthrough);
        record.limit(policies);
        return through(client, record, parts, body, authority.as_ref(), ours)
            .await
            .map(|answer| changed(answer, &later));
    }
    let backend = routed::backend(&found.rule.backends)?;
    let cluster = routed::cluster(plan, &backend.target)?;
    record.goes(found.route, &cluster.name);
    // A Service without a route is the place as well as the backend.
    let is_place = matches!((set.place(), &backend.target),
        (TargetRef::Service(place), BackendTarget::Service { name, .. }) if place == name);
    let of_backend = plan.policies_of(&backend.target).filter(|_| !is_place).map(|policies| &**policies);
    if let Some(policies) = of_backend {
        policies.admit(client, &mut parts, authority.as_ref()).await?;
    }
    let policies = policies.filter(|policies| policies.says_when()).or(of_backend);
    routed::filter(client, plan, &found, &backend.filters, &mut parts, &mut authority, &mut later)?;
    on_its_way(client, &mut parts, authority.as_ref());
    let body = mirror(client, plan, &later, &parts, body);
    let answer = attempts::send(client, record, cluster, policies, parts, body, authority.as_ref()).await?;
    conclude(client, answer, ours).map(|answer| changed(answer, &later))
}

/// Where its client meant it to go.
async fn through(
    client: &Arc<Client>,
    record: &mut Record,
    mut parts: request::Parts,
    body: Flow,
    authority: Option<&Authority>,
    ours: Option<OnUpgrade>,
) -> Result<Answer, Stop> {
    on_its_way(client, &mut parts, authority);
    headers::for_version(client.version, &mut parts, authority);
    let connects = parts.method == Method::CONNECT;
    let mut sent = own::send(client, record, Request::from_parts(parts, body)).await?;
    match ours {
        Some(ours) if connects && sent.response.status().is_success() => {
            headers::connected(sent.response.headers_mut());
            Ok(switched(sent, ours))
        }
        ours => conclude(client, sent, ours),
    }
}

/// Says on a request which way it went, where that is to show.
fn on_its_way(client: &Client, parts: &mut request::Parts, authority: Option<&Authority>) {
    if !shows(client) {
        return;
    }
    let way = &client.accepted.settings.headers;
    headers::forwarded(way.forwarded, &mut parts.headers, client.accepted.peer.ip(), authority);
    if let Some(name) = &way.via {
        headers::via(&mut parts.headers, parts.version, name);
    }
}

/// What is captured is not to notice, unless that is asked for.
fn shows(client: &Client) -> bool {
    matches!(client.accepted.ingress, Ingress::Listener(_)) || client.accepted.settings.headers.captured
}

/// An answer of the upstream's, without what was for this hop.
fn conclude(client: &Client, sent: Sent, ours: Option<OnUpgrade>) -> Result<Answer, Stop> {
    let Sent { mut response, lease } = sent;
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    headers::remove_hop_by_hop(response.headers_mut(), switches);
    let way = &client.accepted.settings.headers;
    if let Some(name) = way.via.as_ref().filter(|_| shows(client)) {
        let version = response.version();
        headers::via(response.headers_mut(), version, name);
    }
    // What an older upstream speaks says nothing of this connection.
    *response.version_mut() = hyper::Version::HTTP_11;
    match ours {
        Some(ours) if switches => Ok(switched(Sent { response, lease }, ours)),
        // A switch that nobody asked for (RFC 9110 section 15.2.2).
        _ if switches => Err(Reply::new(StatusCode::BAD_GATEWAY, "unexpected-upgrade", "UPE").into()),
        _ => Ok(Answer::Theirs(response, lease)),
    }
}

fn switched(sent: Sent, ours: OnUpgrade) -> Answer {
    let Sent { mut response, lease } = sent;
    let theirs = hyper::upgrade::on(&mut response);
    Answer::Switched(response, tunnel::Both { ours, theirs, lease })
}

fn changed(mut answer: Answer, later: &Later<'_>) -> Answer {
    match &mut answer {
        Answer::Theirs(response, _) | Answer::Switched(response, _) => {
            routed::after(later, response.headers_mut());
        }
        Answer::Own(response) => routed::after(later, response.headers_mut()),
    }
    answer
}
