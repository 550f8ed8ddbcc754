//! The metrics server: `/metrics`, and Istio's `/stats/prometheus` for the same.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::serve::{Handler, Reply, only, reads, reply, text};
use crate::observe::metrics::{CONTENT_TYPE, Metrics};

/// Answers scrapes.
#[derive(Clone)]
pub struct Scrape(pub Metrics);

impl Handler for Scrape {
    async fn handle(&self, request: &Request<Incoming>) -> Reply {
        if !reads(request.method()) {
            return only("GET");
        }
        if !matches!(request.uri().path(), "/metrics" | "/stats/prometheus") {
            return text(StatusCode::NOT_FOUND, "here is /metrics");
        }
        let metrics = self.0.clone();
        // Asking the kernel half blocks.
        match tokio::task::spawn_blocking(move || metrics.encode()).await {
            Ok(Ok(metrics)) => reply(StatusCode::OK, CONTENT_TYPE, metrics),
            Ok(Err(_)) | Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be collected"),
        }
    }
}
