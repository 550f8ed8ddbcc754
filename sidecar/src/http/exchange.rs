//! One request: what is decided about it, in which order, and its answer.

use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::http::request;
use hyper::{Method, Request, Response, StatusCode, header};

use super::body::Flow;
use super::record::Record;
use super::reply::Reply;
use super::serve::Client;
use super::{Version, headers, tunnel, upstream};

/// Serves a request. Never fails: what goes wrong is an answer.
///
/// The order: what a request must not be, then its name and trace, so that whatever is said of it can be found; then what
/// is for this hop only goes; then it is sent.
pub(super) async fn exchange(client: Arc<Client>, request: Request<Incoming>) -> Response<Flow> {
    let active = client.begin();
    let (mut parts, body) = request.into_parts();
    headers::identify(&mut parts.headers);
    let mut record = Record::new(&client, &parts);
    let fields = parts.headers.clone();
    let answer = match forward(&client, &mut record, parts, body).await {
        Ok(answer) => answer,
        Err(reply) => {
            record.replied(reply);
            record.finish();
            Answer::Own(reply.response(&fields))
        }
    };
    let (response, switched) = match answer {
        Answer::Own(response) => (response, false),
        Answer::Theirs(response, lease) => {
            record.answered(response.status(), response.headers());
            (response.map(|body| Flow::down(body, lease, record, active)), false)
        }
        Answer::Switched(response, both) => {
            record.answered(response.status(), response.headers());
            tunnel::begin(&client, both, record, active);
            (response.map(|_| Flow::empty()), true)
        }
    };
    if let Some(guard) = &client.guard {
        guard.decide(switched);
    }
    response
}

/// What a request comes to.
enum Answer {
    /// The proxy's word.
    Own(Response<Flow>),
    /// The upstream's, and where its connection goes.
    Theirs(Response<Incoming>, Option<upstream::Lease>),
    /// Both go on in another protocol.
    Switched(Response<Incoming>, tunnel::Both),
}

async fn forward(
    client: &Arc<Client>,
    record: &mut Record,
    mut parts: request::Parts,
    body: Incoming,
) -> Result<Answer, Reply> {
    refuse_some(&parts)?;
    let authority = headers::authority(&parts);
    let upgrade = parts.version == hyper::Version::HTTP_11 && headers::asks_to_upgrade(&parts.headers);
    headers::remove_hop_by_hop(&mut parts.headers, upgrade);
    match client.version {
        Version::Http1 => headers::for_http1(&mut parts, authority.as_ref()),
        Version::Http2 => headers::for_http2(&mut parts, authority.as_ref()),
    }
    record.goes(&client.common().passthrough, &client.common().passthrough);
    let mut request = Request::from_parts(parts, body);
    let ours = upgrade.then(|| hyper::upgrade::on(&mut request));
    let counted = record.request_bytes();
    let request =
        request.map(|body| if body.is_end_stream() { Flow::empty() } else { Flow::Up(body, counted) });
    let (mut response, lease) = upstream::send_on(client, record, request).await?;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    headers::remove_hop_by_hop(response.headers_mut(), switched);
    match ours {
        Some(ours) if switched => {
            let theirs = hyper::upgrade::on(&mut response);
            Ok(Answer::Switched(response, tunnel::Both { ours, theirs }))
        }
        // A switch that nobody asked for (RFC 9110 section 15.2.2).
        _ if switched => Err(Reply::new(StatusCode::BAD_GATEWAY, "unexpected-upgrade", "UPE")),
        _ => {
            if client.version == Version::Http2 {
                response.headers_mut().remove(header::CONNECTION);
            }
            Ok(Answer::Theirs(response, lease))
        }
    }
}

/// What no request may be, wherever it goes.
fn refuse_some(parts: &request::Parts) -> Result<(), Reply> {
    if parts.method == Method::CONNECT {
        return Err(Reply::new(StatusCode::METHOD_NOT_ALLOWED, "connect-not-allowed", "NR"));
    }
    Ok(())
}
