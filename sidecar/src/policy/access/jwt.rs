//! JSON Web Tokens (RFC 7519) in the compact form (RFC 7515, section 3.1), verified as RFC 8725 advises.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::keys::{Algorithm, KeySet, Mismatch};
use crate::config::access::JwtRule;

/// A token whose signature nobody has looked at.
pub(super) struct Unverified<'a> {
    algorithm: Algorithm,
    key: Option<String>,
    /// What is signed.
    message: &'a [u8],
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

/// A token that is good.
pub(super) struct Verified {
    /// `ISSUER/SUBJECT`.
    pub principal: String,
    pub claims: Value,
    /// From when on it is good no longer, skew included.
    pub expires: SystemTime,
}

/// Why a token is not good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JwtError {
    Malformed,
    Critical,
    Algorithm,
    Issuer,
    UnknownKey,
    Signature,
    Audience,
    NoExpiry,
    Expired,
    NotYet,
}

/// Longer tokens are not looked at: a request's header has room for little more.
pub(super) const MAX_TOKEN_BYTES: usize = 32 * 1024;

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// It is there, whatever it says.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

/// True. An `Option` would take null for nothing.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

// === impl Unverified ===

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a str) -> Result<Self, JwtError> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Malformed);
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed);
        let Header { alg, kid, crit } =
            serde_json::from_slice(&decode(header)?).map_err(|_| JwtError::Malformed)?;
        // What must be understood is not: we know no extensions (RFC 7515, section 4.1.11).
        if crit {
            return Err(JwtError::Critical);
        }
        let algorithm = Algorithm::parse(&alg).ok_or(JwtError::Algorithm)?;
        let claims = serde_json::from_slice(&decode(payload)?).map_err(|_| JwtError::Malformed)?;
        let message = &token.as_bytes()[..header.len() + 1 + payload.len()];
        Ok(Self { algorithm, key: kid, message, signature: decode(signature)?, claims })
    }

    /// Who claims to have issued it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Checks it by a rule and the keys of the rule's issuer.
    pub(super) fn verify(
        &self,
        rule: &JwtRule,
        keys: &KeySet,
        now: SystemTime,
    ) -> Result<Verified, JwtError> {
        if self.issuer() != Some(&rule.issuer) {
            return Err(JwtError::Issuer);
        }
        let verified = keys.verify(self.key.as_deref(), self.algorithm, self.message, &self.signature);
        verified.map_err(JwtError::from)?;
        if !rule.audiences.is_empty() && !self.is_for(&rule.audiences) {
            return Err(JwtError::Audience);
        }
        let expires = self.date("exp")?.ok_or(JwtError::NoExpiry)?;
        let expires = expires.checked_add(rule.clock_skew).ok_or(JwtError::Malformed)?;
        if now >= expires {
            return Err(JwtError::Expired);
        }
        let not_before = self.date("nbf")?;
        if not_before.is_some_and(|not_before| now + rule.clock_skew < not_before) {
            return Err(JwtError::NotYet);
        }
        let subject = match self.claims.get("sub") {
            Some(Value::String(subject)) => subject,
            None => "",
            Some(_) => return Err(JwtError::Malformed),
        };
        let principal = format!("{}/{subject}", rule.issuer);
        Ok(Verified { principal, claims: Value::Object(self.claims.clone()), expires })
    }

    fn is_for(&self, audiences: &[String]) -> bool {
        let ours =
            |value: &Value| value.as_str().is_some_and(|text| audiences.iter().any(|ours| ours == text));
        match self.claims.get("aud") {
            Some(Value::Array(values)) => values.iter().any(ours),
            Some(value) => ours(value),
            None => false,
        }
    }

    /// A `NumericDate`: seconds, perhaps with a fraction.
    fn date(&self, claim: &str) -> Result<Option<SystemTime>, JwtError> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        let seconds = value.as_f64().ok_or(JwtError::Malformed)?;
        let since = Duration::try_from_secs_f64(seconds).map_err(|_| JwtError::Malformed)?;
        UNIX_EPOCH.checked_add(since).map(Some).ok_or(JwtError::Malformed)
    }
}

// === impl JwtError ===

impl JwtError {
    /// For the client and the access log.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Critical => "the token has critical header parameters",
            Self::Algorithm => "the token's algorithm is not accepted",
            Self::Issuer => "the token's issuer is not accepted",
            Self::UnknownKey => "the token's key is not known",
            Self::Signature => "the token's signature is wrong",
            Self::Audience => "the token is for another audience",
            Self::NoExpiry => "the token does not expire",
            Self::Expired => "the token is expired",
            Self::NotYet => "the token is not valid yet",
        }
    }
}

impl From<Mismatch> for JwtError {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::UnknownKey => Self::UnknownKey,
            Mismatch::Algorithm => Self::Algorithm,
            Mismatch::Signature => Self::Signature,
        }
    }
}
