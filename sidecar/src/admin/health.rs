//! The health server: `/healthz/ready` and `/healthz/live`, for probes.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::readiness::Readiness;
use super::serve::{Handler, Reply, only, reads, text};

/// Answers probes.
#[derive(Clone, Debug)]
pub struct Health(pub Readiness);

impl Handler for Health {
    async fn handle(&self, request: &Request<Incoming>) -> Reply {
        if !reads(request.method()) {
            return only("GET");
        }
        match request.uri().path() {
            "/healthz/ready" => match self.0.check() {
                Ok(()) => text(StatusCode::OK, "ready"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format_args!("not ready: {reason}")),
            },
            "/healthz/live" => text(StatusCode::OK, "live"),
            _ => text(StatusCode::NOT_FOUND, "here are /healthz/ready and /healthz/live"),
        }
    }
}
