//! What becomes of one request: counted and logged once, when its answer is over, however that comes.

use std::sync::Arc;

use hyper::header::{HeaderMap, USER_AGENT};
use hyper::http::request;
use hyper::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::body::Flow;
use super::client::Client;
use super::headers::{REQUEST_ID, TRACEPARENT, authority};
use super::policies::Policies;
use super::reply::{Reply, protocol};
use super::watch::{Over, Watched};
use crate::observe::recorded::{Excerpt, Recorded};
use crate::observe::request_line::RequestLine;
use crate::observe::requests::{Labels, Sample};

pub use crate::observe::requests::Requests;

/// What is known of a request so far. Dropped unfinished, its client has gone.
pub(super) struct Record {
    client: Arc<Client>,
    labels: Labels,
    started: Instant,
    watched: Arc<Watched>,
    response_bytes: u64,
    /// For the access log, if there is one.
    line: Option<Box<RequestLine>>,
    finished: bool,
}

impl Record {
    /// A request comes in.
    pub(super) fn new(client: &Arc<Client>, parts: &request::Parts) -> Self {
        let none: Arc<str> = Arc::clone(&client.none);
        let started = Instant::now();
        let line = client.common().access_log.is_some().then(|| {
            let text =
                |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            Box::new(RequestLine {
                connection: client.accepted.id.0,
                instance: Arc::clone(&client.common().instance),
                direction: client.accepted.sockets.direction,
                source: client.accepted.peer,
                original_destination: client.destination,
                method: parts.method.to_string(),
                host: authority(parts).map(|authority| authority.to_string()),
                path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
                protocol: protocol(parts.version).to_owned(),
                route: Arc::clone(&none),
                backend: Arc::clone(&none),
                endpoint: None,
                attempts: 0,
                status: 0,
                grpc_status: None,
                flags: None,
                reason: None,
                duration_ms: 0.0,
                response_ms: None,
                request_bytes: 0,
                response_bytes: 0,
                request_id: text(REQUEST_ID),
                trace_id: text(TRACEPARENT).and_then(|trace| trace.get(3..35).map(str::to_owned)),
                user_agent: text(USER_AGENT),
                recorded: client.common().recorder.as_ref().map(|to| Box::new(to.begin(&parts.headers))),
            })
        });
        Self {
            client: Arc::clone(client),
            labels: Labels {
                direction: client.accepted.sockets.direction,
                route: Arc::clone(&none),
                backend: none,
                method: label(&parts.method),
                code: 0,
                flags: "",
            },
            started,
            watched: Watched::new(client.accepted.settings.timeouts.idle, started),
            response_bytes: 0,
            line,
            finished: false,
        }
    }

    /// Its time, and where its bytes are counted.
    pub(super) fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }

    /// What takes the beginning of its body, where that is recorded.
    pub(super) fn body(&self) -> Option<Arc<Excerpt>> {
        self.line.as_ref()?.recorded.as_ref()?.request_body()
    }

    /// So long it may take.
    pub(super) fn limit(&self, policies: Option<&Policies>) {
        let Some(policies) = policies else { return };
        if let Some(timeout) = policies.request_timeout {
            self.watched.limit_until(Instant::now() + timeout, Over::Request);
        }
        if let Some(idle) = policies.idle {
            self.watched.limit_idle(idle, Instant::now());
        }
    }

    /// Which route and backend it takes.
    pub(super) fn goes(&mut self, route: &Arc<str>, backend: &Arc<str>) {
        (self.labels.route, self.labels.backend) = (Arc::clone(route), Arc::clone(backend));
    }

    /// It is sent, to this endpoint.
    pub(super) fn attempt(&mut self, endpoint: impl FnOnce() -> String) {
        if let Some(line) = &mut self.line {
            line.attempts += 1;
            line.endpoint = Some(endpoint());
        }
    }

    /// This endpoint's answer counts, though others were asked later.
    pub(super) fn answered_by(&mut self, endpoint: impl FnOnce() -> String) {
        if let Some(line) = &mut self.line {
            line.endpoint = Some(endpoint());
        }
    }

    /// Its answer's header has come.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.labels.code = status.as_u16();
        if let Some(line) = &mut self.line {
            line.response_ms = Some(millis(self.started));
        }
        self.shows(headers);
        self.trailers(headers);
    }

    /// The proxy's own answer; `head`: without its body.
    pub(super) fn own(&mut self, response: &Response<Flow>, head: bool) {
        self.shows(response.headers());
        if let Flow::Own(Some(body)) = response.body()
            && !head
        {
            self.received(body);
        }
    }

    fn shows(&mut self, headers: &HeaderMap) {
        if self.recorded().is_none() {
            return;
        }
        let client = Arc::clone(&self.client);
        if let (Some(recorder), Some(recorded)) = (&client.common().recorder, self.recorded()) {
            recorder.answered(recorded, headers);
        }
    }

    fn recorded(&mut self) -> Option<&mut Recorded> {
        self.line.as_mut()?.recorded.as_deref_mut()
    }

    /// The proxy itself answers.
    pub(super) fn replied(&mut self, reply: Reply) {
        self.labels.code = reply.status.as_u16();
        self.labels.flags = reply.flags;
        if let Some(line) = &mut self.line {
            line.reason = Some(reply.reason);
            line.response_ms = Some(millis(self.started));
        }
    }

    /// More of the answer's body.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.response_bytes += bytes.len() as u64;
        if let Some(recorded) = self.recorded() {
            recorded.received(bytes);
        }
    }

    /// Trailers, or a header that may be one of gRPC without a body.
    pub(super) fn trailers(&mut self, fields: &HeaderMap) {
        if let Some(line) = &mut self.line
            && let Some(status) = fields.get("grpc-status")
        {
            line.grpc_status = status.to_str().ok().and_then(|status| status.parse().ok());
        }
    }

    /// After an upgrade so many bytes went each way.
    pub(super) fn tunnelled(&mut self, up: u64, down: u64) {
        self.watched.sent(up);
        self.response_bytes += down;
    }

    /// Something that the answer does not show.
    pub(super) fn flag(&mut self, flags: &'static str) {
        self.labels.flags = flags;
    }

    /// The upstream ended before its answer did.
    pub(super) fn upstream_broke(&mut self) {
        self.labels.flags = "UC";
    }

    /// All of the answer is passed on.
    pub(super) fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.watched.end();
        let request_bytes = self.watched.request_bytes();
        let duration = self.started.elapsed();
        let sample = Sample { duration, request_bytes, response_bytes: self.response_bytes };
        let common = self.client.common();
        if let (Some(log), Some(mut line)) = (&common.access_log, self.line.take()) {
            line.route = Arc::clone(&self.labels.route);
            line.backend = Arc::clone(&self.labels.backend);
            line.status = self.labels.code;
            line.flags = Some(self.labels.flags).filter(|flags| !flags.is_empty());
            line.duration_ms = duration.as_secs_f64() * 1e3;
            (line.request_bytes, line.response_bytes) = (request_bytes, self.response_bytes);
            log.write_request(line);
        }
        common.requests.count(self.labels.clone(), sample);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished && self.labels.flags.is_empty() {
            self.labels.flags = self.watched.over().map_or("DC", Over::flags);
        }
        self.finish();
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// A label that clients cannot make up.
fn label(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
