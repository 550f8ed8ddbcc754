//! Policies as they are written, against requests with tokens that are really signed.

mod jwt;
mod rules;
mod signer;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use signer::Signer;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example.com";

/// One policy.
struct Fixture {
    signer: Signer,
    stores: KeyStores,
    access: Access,
    policy: AccessPolicy,
}

/// A request; `GET /` unless changed.
struct Sent {
    method: Method,
    path: &'static str,
    source: IpAddr,
    host: Option<&'static str>,
    headers: HeaderMap,
}

#[test]
fn every_worker_may_use_it() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn sent<F: Future + Send>(_: F) {}
    let fixture = Fixture::new("  rules: [{action: ALLOW}]\n");
    shared(&fixture.access);
    shared(&fixture.stores);
    sent(fixture.stores.keep_fresh());
    let (method, source) = (&Method::GET, IpAddr::from([10, 0, 0, 1]));
    let headers = HeaderMap::new();
    let question =
        Question { method, path_and_query: "/", host: None, scheme: "http", source, headers: &headers };
    sent(fixture.access.ask(&question));
    assert!(!fixture.access.asks());
}

fn policy(spec: &str) -> AccessPolicy {
    let text = format!(
        "apiVersion: sidecar.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: own}}\nspec:\n\
         \x20 targetRefs: [{{group: sidecar.dev, kind: Inbound, port: 8080}}]\n{spec}"
    );
    let mut config = Config::parse(&text, "f").unwrap_or_else(|errors| panic!("{errors}"));
    config.access.remove(0)
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Claims that are good for ten minutes, changed by `with`; null takes one out.
fn claims(with: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "sub": "alice", "aud": "reviews", "exp": NOW + 600});
    if let (Some(claims), Value::Object(with)) = (claims.as_object_mut(), with) {
        claims.extend(with);
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

impl Fixture {
    /// A policy with an issuer, `more` fields of its rule, and `rest` beside it.
    fn with_jwt(more: &str, rest: &str) -> Self {
        let signer = Signer::new();
        let jwks = signer.jwks();
        let jwt = format!(
            "  jwt:\n  - issuer: {ISSUER}\n    audiences: [reviews]\n    jwks: {{inline: '{jwks}'}}\n{more}"
        );
        Self { signer, ..Self::new(&format!("{jwt}{rest}")) }
    }

    fn new(spec: &str) -> Self {
        let policy = policy(spec);
        let stores = KeyStores::new(std::slice::from_ref(&policy), None);
        let access = Access::new(&[&policy], &stores);
        Self { signer: Signer::new(), stores, access, policy }
    }

    fn verdict(&self, sent: &Sent, now: SystemTime) -> Verdict {
        let path = self.access.normalise(sent.path).unwrap();
        let Sent { method, source, host, headers, .. } = sent;
        let facts = Facts { source: *source, method, path: &path, host: *host, port: 8080, headers };
        self.access.evaluate(&facts, now)
    }

    /// The status and reason of a refusal, or the principal of what passes.
    fn outcome(&self, sent: &Sent) -> Result<String, (u16, &'static str)> {
        outcome(self.verdict(sent, at(NOW)))
    }

    /// Likewise, of a request with this token.
    fn bearer(&self, token: &str, now: u64) -> Result<String, (u16, &'static str)> {
        outcome(self.verdict(&Sent::default().bearer(token), at(now)))
    }

    /// Likewise, of a request with these claims.
    fn claimed(&self, with: Value, now: u64) -> Result<String, (u16, &'static str)> {
        self.bearer(&self.signer.sign("ES256", Some("p256"), &claims(with)), now)
    }
}

fn outcome(verdict: Verdict) -> Result<String, (u16, &'static str)> {
    match verdict {
        Verdict::Allow { identity, .. } => Ok(identity.map_or("-".to_owned(), |identity| identity.principal)),
        Verdict::Refuse { status, reason, www_authenticate } => {
            assert!(www_authenticate.is_some() || status != StatusCode::UNAUTHORIZED, "{reason}");
            Err((status.as_u16(), reason))
        }
    }
}

impl Default for Sent {
    fn default() -> Self {
        let (method, source) = (Method::GET, IpAddr::from([10, 0, 0, 1]));
        Self { method, path: "/", source, host: Some("app.example.com"), headers: HeaderMap::new() }
    }
}

impl Sent {
    fn path(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    fn bearer(mut self, token: &str) -> Self {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        self.headers.append(AUTHORIZATION, value);
        self
    }
}
