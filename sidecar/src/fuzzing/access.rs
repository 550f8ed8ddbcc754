//! Tokens, key sets and rules.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{HeaderMap, Method};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::config::{policy, quoted};
use crate::policy::access::keys::KeySet;
use crate::policy::access::{Access, Facts, Identity, KeyStores, Verdict};

const ISSUER: &str = "https://issuer.example.com";
const NOW: u64 = 1_800_000_000;
const SKEW: u64 = 30;

/// An issuer, and a policy that asks for its tokens.
static ISSUED: LazyLock<Option<(Ed25519KeyPair, Access)>> = LazyLock::new(|| {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).ok()?;
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
    Some((key, asking(&keys.to_string())?))
});

/// The first byte says what the others are: a field with a token, a token that the issuer signs, a key set, or a rule and a path.
pub fn access(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let lines = rest.iter().position(|byte| *byte == b'\n').map(|end| (&rest[..end], &rest[end + 1..]));
    match (first % 4, lines) {
        (0, _) => presented(rest),
        (1, Some((header, claims))) => signed(header, claims),
        (2, _) => key_set(rest),
        (3, Some((pattern, path))) => rule(pattern, path),
        _ => {}
    }
}

/// No token but the one that was signed identifies.
fn presented(field: &[u8]) {
    let Some((key, access)) = &*ISSUED else { return };
    let claims = json!({"iss": ISSUER, "sub": "alice", "aud": "reviews", "exp": NOW + 600});
    let good = token(key, br#"{"alg":"EdDSA"}"#, claims.to_string().as_bytes());
    let genuine = [&b"Bearer "[..], good.as_bytes()].concat();
    assert!(identified(access, &genuine).is_some_and(|identity| identity.principal.ends_with("/alice")));
    if identified(access, field).is_some() {
        let (scheme, rest) = field.trim_ascii().split_at(7);
        assert!(scheme.eq_ignore_ascii_case(b"bearer ") && rest.trim_ascii() == good.as_bytes(), "{field:?}");
    }
}

/// What an issuer signed identifies only as RFC 7519 says, and as it says.
fn signed(header: &[u8], claims: &[u8]) {
    let Some((key, access)) = &*ISSUED else { return };
    let field = format!("Bearer {}", token(key, header, claims));
    let Some(identity) = identified(access, field.as_bytes()) else { return };
    let read = |json: &[u8]| serde_json::from_slice(json).unwrap_or(Value::Null);
    let (header, claims): (Value, Value) = (read(header), read(claims));
    assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519", "{header}");
    assert!(header["kid"].is_null() || header["kid"] == "k", "{header}");
    assert!(header.get("crit").is_none(), "{header}");
    assert_eq!(claims["iss"], ISSUER);
    let is_ours = |audience: &Value| audience == "reviews";
    assert!(
        is_ours(&claims["aud"]) || claims["aud"].as_array().is_some_and(|all| all.iter().any(is_ours)),
        "{claims}"
    );
    #[expect(clippy::cast_precision_loss, reason = "dates have fewer bits")]
    let (now, skew) = (NOW as f64, SKEW as f64);
    assert!(claims["exp"].as_f64().is_some_and(|end| now < end + skew), "{claims}");
    assert!(
        claims.get("nbf").is_none_or(|start| start.as_f64().is_some_and(|start| start <= now + skew)),
        "{claims}"
    );
    assert_eq!(identity.principal, format!("{ISSUER}/{}", claims["sub"].as_str().unwrap_or_default()));
    assert_eq!(*identity.claims, claims);
}

/// A key set is read or not, in a file as in a policy, and any key can be tried.
fn key_set(json: &[u8]) {
    let good = KeySet::parse(json).is_ok();
    let Ok(text) = str::from_utf8(json) else { return assert!(!good) };
    let Some(access) = asking(text) else { return assert!(!good, "a policy cannot hold what a file can") };
    assert!(good, "a policy holds what a file cannot");
    let claims = json!({"iss": ISSUER, "aud": "reviews", "exp": NOW + 600}).to_string();
    for (algorithm, length) in [("RS256", 256), ("PS512", 512), ("ES256", 64), ("ES384", 96), ("EdDSA", 64)] {
        let message = joined(json!({"alg": algorithm}).to_string().as_bytes(), claims.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(vec![1; length]);
        drop(identified(&access, format!("Bearer {message}.{signature}").as_bytes()));
    }
}

/// A pattern matches what it says.
fn rule(pattern: &[u8], path: &[u8]) {
    let (Ok(pattern), Ok(path)) = (str::from_utf8(pattern), str::from_utf8(path)) else { return };
    let Some(access) = with(&format!("  rules: [{{action: DENY, to: {{paths: [{}]}}}}]", quoted(pattern)))
    else {
        return;
    };
    let Ok(path) = access.normalise(path) else { return };
    let wanted = match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => pattern == "*",
        (Some(end), None) => path.ends_with(end),
        (None, Some(start)) => path.starts_with(start),
        (None, None) => path == pattern,
    };
    let denied = matches!(verdict(&access, &path, &HeaderMap::new()), Verdict::Refuse { .. });
    assert_eq!(denied, wanted, "{pattern:?} on {path:?}");
}

/// A policy that asks for tokens of this key set.
fn asking(keys: &str) -> Option<Access> {
    with(&format!(
        "  jwt: [{{issuer: '{ISSUER}', audiences: [reviews], clockSkew: {SKEW}s, jwks: {{inline: {}}}}}]\n  rules: [{{action: \
         ALLOW}}]",
        quoted(keys)
    ))
}

fn with(fields: &str) -> Option<Access> {
    let policy = policy(fields)?;
    let stores = KeyStores::new(std::slice::from_ref(&policy), None);
    Some(Access::new(&[&policy], &stores))
}

/// Who a request with this field is taken for.
fn identified(access: &Access, field: &[u8]) -> Option<Identity> {
    let value = HeaderValue::from_bytes(field).ok()?;
    match verdict(access, "/", &HeaderMap::from_iter([(AUTHORIZATION, value)])) {
        Verdict::Allow { identity, .. } => {
            assert!(identity.is_some(), "nobody is allowed");
            identity
        }
        Verdict::Refuse { .. } => None,
    }
}

fn verdict(access: &Access, path: &str, headers: &HeaderMap) -> Verdict {
    let (source, method) = (IpAddr::from([10, 0, 0, 1]), &Method::GET);
    let facts = Facts { source, method, path, host: None, port: 8080, headers };
    access.evaluate(&facts, now())
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn token(key: &Ed25519KeyPair, header: &[u8], claims: &[u8]) -> String {
    let message = joined(header, claims);
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn joined(header: &[u8], claims: &[u8]) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}
