//! Who asks, and whether they may: tokens, rules, and an external authorizer's word.
//!
//! A request goes through it so: its path is normalised ([`Access::normalise`]), [`Access::evaluate`] gives a verdict, and
//! after the verdict's headers are applied [`Access::ask`] asks the authorizers, if there are any.

mod cache;
mod challenge;
mod claims;
mod external;
mod http;
mod identify;
mod jwks;
mod jwt;
pub mod keys;
mod rules;
mod tokens;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use super::path::{self, Refused};
use crate::config::access::{AccessPolicy, Rule};
use external::External;
use identify::Identifier;
use rules::Decision;

pub use external::{Answer, Question};
pub use jwks::KeyStores;

/// The policies of one target, put together.
pub struct Access {
    identifier: Identifier,
    rules: Vec<Rule>,
    externals: Vec<External>,
    /// What only we may say.
    claim_headers: Vec<HeaderName>,
    allow_encoded_slashes: bool,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// Its method.
    pub method: &'a Method,
    /// Its path, normalised, without query.
    pub path: &'a str,
    /// The host it names, with or without port.
    pub host: Option<&'a str>,
    /// The port of this workload that it came to.
    pub port: u16,
    /// Its headers, as they came.
    pub headers: &'a HeaderMap,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It may pass.
    Allow {
        /// Whose it is, if that is known.
        identity: Option<Identity>,
        /// Headers to append, after the removals.
        set_headers: Vec<(HeaderName, HeaderValue)>,
        /// Headers to remove first.
        remove_headers: Vec<HeaderName>,
    },
    /// It is refused.
    Refuse {
        /// 401: it needs a token, or a good one; 403: its right is missing.
        status: StatusCode,
        /// Why, for the access log.
        reason: &'static str,
        /// The response's `WWW-Authenticate`; always there with 401.
        www_authenticate: Option<HeaderValue>,
    },
}

/// Who sent a request.
#[derive(Clone, PartialEq, Debug)]
pub struct Identity {
    /// `ISSUER/SUBJECT` of a JWT, `tokens/NAME` of a static token.
    pub principal: String,
    /// The claims of a JWT, an object; else null.
    pub claims: Arc<Value>,
}

// === impl Access ===

impl Access {
    /// Puts policies together. Their key sets are those of `stores`.
    pub fn new(policies: &[&AccessPolicy], stores: &KeyStores) -> Self {
        let identifier = Identifier::new(policies, stores);
        let external = policies.iter().filter_map(|policy| policy.external_authorization.as_ref());
        Self {
            claim_headers: identifier.claim_headers(),
            identifier,
            rules: policies.iter().flat_map(|policy| policy.rules.clone()).collect(),
            externals: external.map(|external| External::new(external.http.clone())).collect(),
            allow_encoded_slashes: policies
                .iter()
                .all(|policy| policy.path_normalization.allow_encoded_slashes),
        }
    }

    /// The path as rules and upstream are to see it. Encoded slashes pass only if all policies let them, so
    /// also where there is none.
    pub fn normalise<'a>(&self, path: &'a str) -> Result<Cow<'a, str>, Refused> {
        path::normalise(path, self.allow_encoded_slashes)
    }

    /// Decides by tokens and rules.
    pub fn evaluate(&self, request: &Facts<'_>, now: SystemTime) -> Verdict {
        let identified = match self.identifier.identify(request.headers, now) {
            Ok(identified) => identified,
            Err(why) => {
                return refuse(StatusCode::UNAUTHORIZED, why, Some(challenge::invalid_token(why)));
            }
        };
        let identity = identified.as_ref().map(|identified| &identified.identity);
        match rules::decide(&self.rules, request, identity, self.identifier.identifies()) {
            Decision::Allow => {}
            Decision::Denied => return refuse(StatusCode::FORBIDDEN, "a DENY rule matches", None),
            Decision::NotAllowed => {
                let challenge = identity.map(|_| challenge::insufficient_scope());
                return refuse(StatusCode::FORBIDDEN, "no ALLOW rule matches", challenge);
            }
            Decision::IdentityNeeded => {
                return refuse(StatusCode::UNAUTHORIZED, "a token is needed", Some(challenge::missing()));
            }
        }
        let mut remove_headers = self.spoofed(request.headers);
        let mut set_headers = Vec::new();
        if let Some(identified) = &identified {
            remove_headers.extend(identified.remove.clone());
            set_headers.clone_from(&identified.headers);
        }
        Verdict::Allow { identity: identity.cloned(), set_headers, remove_headers }
    }

    /// True if [`Self::ask`] has someone to ask.
    pub fn asks(&self) -> bool {
        !self.externals.is_empty()
    }

    /// Asks the authorizers, one after another, until one refuses. Cancel safe.
    pub async fn ask(&self, question: &Question<'_>) -> Answer {
        let (mut removed, mut set) = (Vec::new(), Vec::new());
        for external in &self.externals {
            match external.ask(question).await {
                Answer::Allow { remove_headers, set_headers } => {
                    removed.extend(remove_headers);
                    set.extend(set_headers);
                }
                refusal @ Answer::Refuse(_) => return refusal,
            }
        }
        Answer::Allow { remove_headers: removed, set_headers: set }
    }

    /// The headers that only we may set, also in spellings with underscores: CGI and WSGI make one of both.
    fn spoofed(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        let ours = |name: &HeaderName| {
            let dashed = name.as_str().replace('_', "-");
            self.claim_headers.iter().any(|claim| claim.as_str().replace('_', "-") == dashed)
        };
        if self.claim_headers.is_empty() {
            return Vec::new();
        }
        headers.keys().filter(|name| ours(name)).cloned().collect()
    }
}

fn refuse(status: StatusCode, reason: &'static str, www_authenticate: Option<HeaderValue>) -> Verdict {
    Verdict::Refuse { status, reason, www_authenticate }
}
