//! Whether a request is tried again, and when.

#[cfg(test)]
mod tests;

use std::time::Duration;

use fastrand::Rng;
use hyper::HeaderMap;
use hyper::header::RETRY_AFTER;

use crate::config::traffic::{Retry, RetryOn};

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With an answer.
    Response {
        /// Its status.
        status: u16,
        /// Its gRPC status, where the head has one.
        grpc_status: Option<u8>,
    },
    /// No connection came about.
    ConnectFailure,
    /// The upstream said that it did not act on the request.
    RefusedStream,
    /// The connection broke before the request was sent.
    ResetBeforeRequest,
    /// The connection broke before there was an answer.
    Reset,
    /// There was no answer in time.
    Timeout,
}

/// A request that was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// How often it was tried again already; 0 after the first attempt.
    pub retries: u32,
    /// Its method is idempotent (RFC 9110, section 9.2.2).
    pub idempotent: bool,
    /// Its body can be sent again: there is none, or all of it was kept.
    pub replayable: bool,
}

/// What is tried again.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    config: Retry,
}

/// An upstream that asks for more time than this gets no retry: the client had better know.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

impl RetryPolicy {
    /// The policy that the configuration gives.
    pub fn new(config: Retry) -> Self {
        Self { config }
    }

    /// What it was made of.
    pub fn config(&self) -> &Retry {
        &self.config
    }

    /// True when the request may be tried again. An answer that the configuration names is followed by a retry whatever
    /// the method; where there is no answer and the upstream may have acted, only an idempotent request is sent again.
    pub fn decide(&self, attempt: Attempt, outcome: Outcome) -> bool {
        if attempt.retries >= self.config.attempts || !attempt.replayable {
            return false;
        }
        match outcome {
            Outcome::Response { status, grpc_status } => self.names(status, grpc_status),
            Outcome::ConnectFailure => self.without_answer(RetryOn::ConnectFailure),
            Outcome::RefusedStream => self.without_answer(RetryOn::RefusedStream),
            Outcome::ResetBeforeRequest => self.without_answer(RetryOn::ResetBeforeRequest),
            Outcome::Reset | Outcome::Timeout => attempt.idempotent && self.without_answer(RetryOn::Reset),
        }
    }

    /// True when another attempt may be made beside one that is late. Whoever configures that says that a request may be
    /// done twice, whatever its method (Envoy).
    pub fn hedges(&self, attempt: Attempt) -> bool {
        self.config.hedge_on_per_try_timeout && attempt.replayable && attempt.retries < self.config.attempts
    }

    fn names(&self, status: u16, grpc_status: Option<u8>) -> bool {
        let on = |what| self.config.on.contains(&what);
        self.config.codes.contains(&status)
            || match status {
                409 => on(RetryOn::Retriable4xx),
                502..=504 => on(RetryOn::GatewayError) || on(RetryOn::ServerError),
                500..=599 => on(RetryOn::ServerError),
                _ => false,
            }
            || match grpc_status {
                Some(1) => on(RetryOn::Cancelled),
                Some(4) => on(RetryOn::DeadlineExceeded),
                Some(8) => on(RetryOn::ResourceExhausted),
                Some(13) => on(RetryOn::Internal),
                Some(14) => on(RetryOn::Unavailable),
                _ => false,
            }
    }

    /// True when this is configured, or one of the conditions that cover all failures without an answer: the client
    /// would get a 502, 503 or 504 for them.
    fn without_answer(&self, what: RetryOn) -> bool {
        let covers = [what, RetryOn::Reset, RetryOn::ServerError, RetryOn::GatewayError];
        self.config.on.iter().any(|on| covers.contains(on))
    }

    /// How long to wait before retry `retry` (from 1): anything up to `2^retry - 1` times the base, but not more than
    /// the longest (Envoy's full jitter).
    pub fn backoff(&self, retry: u32, rng: &mut Rng) -> Duration {
        let times = 1_u32.checked_shl(retry).map_or(u32::MAX, |power| power - 1);
        let most = self.config.base_interval.saturating_mul(times).min(self.config.max_interval);
        most.mul_f64(rng.f64())
    }

    /// Likewise, but no shorter than the upstream asks for. `None`: it asks for more than [`MAX_RETRY_AFTER`]; its
    /// answer is the client's.
    pub fn wait(&self, retry: u32, retry_after: Option<Duration>, rng: &mut Rng) -> Option<Duration> {
        let asked = retry_after.unwrap_or_default();
        (asked <= MAX_RETRY_AFTER).then(|| self.backoff(retry, rng).max(asked))
    }
}

/// The seconds of `Retry-After`. A date there is not read.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
