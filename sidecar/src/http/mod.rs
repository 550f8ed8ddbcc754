//! HTTP: a client's connection, the requests on it, and where they go.
//!
//! A request's walk: [`guard`] refuses what is not framed clearly, hyper reads it, [`exchange`] decides about it and has it
//! sent, [`upstream`] sends it, and [`record`] counts and logs it when its answer is over.

mod body;
mod exchange;
mod framing;
mod guard;
mod headers;
mod record;
mod reply;
mod serve;
mod tunnel;
mod upstream;

use std::sync::Arc;

pub use self::record::Requests;
pub use self::serve::serve;
use crate::config::{Config, Limits};
use crate::observe::access_log::AccessLog;

/// What a client's connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
}

/// What HTTP connections share.
pub struct Common {
    /// Bounds on what clients may ask for.
    limits: Limits,
    /// Counts of requests.
    requests: Arc<Requests>,
    /// A line for each request.
    access_log: Option<AccessLog>,
    /// The instance's name.
    instance: Arc<str>,
    /// The label of what goes where it was meant to.
    passthrough: Arc<str>,
}

impl Common {
    /// By the configuration.
    pub fn new(
        config: &Config,
        instance: &str,
        requests: Arc<Requests>,
        access_log: Option<AccessLog>,
    ) -> Self {
        Self {
            limits: config.limits,
            requests,
            access_log,
            instance: instance.into(),
            passthrough: "passthrough".into(),
        }
    }
}
