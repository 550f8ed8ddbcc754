//! Asks a service whether a request may pass.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use super::http::{self, Causes, HttpClient};
use crate::config::access::HttpAuthorization;

/// One authorizer.
pub(super) struct External {
    config: HttpAuthorization,
    client: HttpClient,
}

/// What an authorizer is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// Its path, normalised, and query.
    pub path_and_query: &'a str,
    /// The host it names, with its port if it has one.
    pub host: Option<&'a str>,
    /// `http` or `https`: how the client sent it.
    pub scheme: &'a str,
    /// Who sent it.
    pub source: IpAddr,
    /// Its headers as the upstream would see them: after a verdict's changes.
    pub headers: &'a HeaderMap,
}

/// What an authorizer says.
#[derive(Debug)]
pub enum Answer {
    /// The request may pass.
    Allow {
        /// Headers to remove first.
        remove_headers: Vec<HeaderName>,
        /// Headers to append then.
        set_headers: Vec<(HeaderName, HeaderValue)>,
    },
    /// The client gets this response instead.
    Refuse(Response<Bytes>),
}

/// Why an authorizer said nothing.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    #[error("cannot ask: {}", Causes(.0))]
    Client(#[from] hyper_util::client::legacy::Error),
    #[error("the request cannot be described to it: {0}")]
    Describe(#[from] hyper::http::Error),
    #[error("its answer is {0}")]
    Status(StatusCode),
    #[error("cannot read its answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// How long a body may be that is relayed to the client.
const MAX_BODY: usize = 64 * 1024;
/// What is of one hop only (RFC 9110, section 7.6.1), or is written anew with the body.
const HOP: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

// === impl External ===

impl External {
    pub(super) fn new(config: HttpAuthorization) -> Self {
        let client = HttpClient::new(config.trust.as_ref().map(|trust| &trust.client));
        Self { config, client }
    }

    /// Asks, within the configured timeout. Cancel safe.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Answer {
        let asked = async {
            let answer = self.client.request(self.request(question)?).await?;
            let (parts, body) = answer.into_parts();
            match parts.status {
                // What allows needs no body.
                status if status.is_success() => Ok(self.allow(&parts.headers)),
                status if status.is_redirection() || status.is_client_error() => {
                    let body = http::body(body, MAX_BODY).await.map_err(AskError::Body)?;
                    Ok(Answer::Refuse(relay(status, parts.headers, body)))
                }
                status => Err(AskError::Status(status)),
            }
        };
        let timeout = self.config.timeout;
        let answer = tokio::time::timeout(timeout, asked).await.unwrap_or(Err(AskError::Timeout(timeout)));
        answer.unwrap_or_else(|error| self.without(&error))
    }

    /// A GET without body: method and path are in headers, as Traefik's ForwardAuth and nginx's `auth_request` have it.
    fn request(&self, question: &Question<'_>) -> Result<Request<Empty<Bytes>>, AskError> {
        let mut request = Request::get(self.config.url.clone());
        for name in &self.config.headers {
            for value in question.headers.get_all(name) {
                request = request.header(name, value);
            }
        }
        let mut request = request.body(Empty::new())?;
        let mut forwarded = |name: &'static str, text: &str| {
            let value = HeaderValue::from_bytes(text.as_bytes()).map_err(hyper::http::Error::from)?;
            // What the client says of itself is not passed on.
            request.headers_mut().insert(HeaderName::from_static(name), value);
            Ok::<(), AskError>(())
        };
        forwarded("x-forwarded-method", question.method.as_str())?;
        forwarded("x-forwarded-uri", question.path_and_query)?;
        forwarded("x-forwarded-host", question.host.unwrap_or_default())?;
        forwarded("x-forwarded-proto", question.scheme)?;
        forwarded("x-forwarded-for", &question.source.to_canonical().to_string())?;
        Ok(request)
    }

    /// The client's own `authorization` and `cookie` pass if the authorizer sets none; of other headers, only the
    /// authorizer's count.
    fn allow(&self, answer: &HeaderMap) -> Answer {
        let names = &self.config.allowed_upstream_headers;
        let own = |name: &HeaderName| *name == AUTHORIZATION || *name == COOKIE;
        let remove = names.iter().filter(|name| !own(name) || answer.contains_key(*name));
        let set = names
            .iter()
            .flat_map(|name| answer.get_all(name).iter().map(move |value| (name.clone(), value.clone())));
        Answer::Allow { remove_headers: remove.cloned().collect(), set_headers: set.collect() }
    }

    fn without(&self, error: &AskError) -> Answer {
        let HttpAuthorization { url, fail_open, .. } = &self.config;
        if *fail_open {
            tracing::debug!("external authorization by {url}: {error}; the request passes (failOpen)");
            return self.allow(&HeaderMap::new());
        }
        tracing::debug!("external authorization by {url}: {error}; the request is refused");
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::FORBIDDEN;
        Answer::Refuse(response)
    }
}

fn relay(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Response<Bytes> {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

#[cfg(test)]
mod tests;
