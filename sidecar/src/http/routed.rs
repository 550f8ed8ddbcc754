//! A request that a rule was found for: its filters and its backend.

use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request;
use hyper::http::uri::Authority;
use hyper::{Response, StatusCode};

use super::body::Flow;
use super::client::Client;
use super::plan::Plan;
use super::policies::Stop;
use super::reply::Reply;
use crate::config::route::{BackendRef, BackendTarget, Cors, Filter, HeaderEdits, Mirror, Rewrite};
use crate::route::{Found, cors, redirect, rewrite, weights};
use crate::upstream::cluster::Cluster;

/// What filters left to be done.
#[derive(Default)]
pub(super) struct Later<'a> {
    response: Vec<&'a HeaderEdits>,
    cors: Option<(&'a Cors, Option<HeaderValue>)>,
    pub mirrors: Vec<&'a Mirror>,
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

/// What filters left to be done with an answer.
pub(super) fn after(later: &Later<'_>, fields: &mut HeaderMap) {
    for edits in &later.response {
        crate::route::headers::apply(edits, fields);
    }
    if let Some((cors, origin)) = &later.cors {
        cors::response(cors, origin.as_ref(), fields);
    }
}
