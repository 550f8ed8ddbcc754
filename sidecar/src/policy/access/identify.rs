//! Finds a request's token and says whose it is.

use std::sync::Arc;
use std::time::SystemTime;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::cache::Cache;
use super::jwks::{KeyStore, KeyStores};
use super::jwt::{JwtError, MAX_TOKEN_BYTES, Unverified};
use super::keys::KeySet;
use super::{Identity, claims, tokens};
use crate::config::access::{AccessPolicy, JwtRule, StaticToken};

/// Who may be identified, and how.
pub(super) struct Identifier {
    issuers: Vec<Issuer>,
    tokens: Vec<StaticToken>,
    /// By header, the longest prefix first.
    places: Vec<Place>,
    cache: Cache<Key, Identified>,
}

/// A caller with an identity.
pub(super) struct Identified {
    pub identity: Identity,
    /// What the upstream sees of the claims.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The header that carried the token, if the upstream is not to see it.
    pub remove: Option<HeaderName>,
    /// For how long, and by which keys. A static token has neither.
    proof: Option<Proof>,
}

struct Proof {
    expires: SystemTime,
    store: Arc<KeyStore>,
    keys: Arc<KeySet>,
}

struct Issuer {
    rule: JwtRule,
    store: Arc<KeyStore>,
}

/// Where a token may be.
struct Place {
    header: HeaderName,
    prefix: String,
    /// Whose token it may be, by index.
    issuers: Vec<usize>,
    /// Whether it may be a static one.
    tokens: bool,
}

/// The SHA-256 of a token, and the place in which it was: issuers' rules differ by place.
type Key = ([u8; 32], usize);

/// How many verified tokens are remembered.
const MAX_CACHED: usize = 4096;
/// Longer tokens are verified each time, so that the cache stays within some 50 MiB.
const MAX_CACHED_BYTES: usize = 4 * 1024;

// === impl Identifier ===

impl Identifier {
    pub(super) fn new(policies: &[&AccessPolicy], stores: &KeyStores) -> Self {
        let issuer = |rule: &JwtRule| Issuer {
            rule: rule.clone(),
            store: stores.find(&rule.jwks).unwrap_or_else(|| Arc::new(KeyStore::new(&rule.jwks))),
        };
        let issuers: Vec<Issuer> = policies.iter().flat_map(|policy| &policy.jwt).map(issuer).collect();
        let tokens: Vec<StaticToken> = policies.iter().flat_map(|policy| policy.tokens.clone()).collect();
        let mut places: Vec<Place> = Vec::new();
        if !tokens.is_empty() {
            place(&mut places, &AUTHORIZATION, "Bearer ").tokens = true;
        }
        for (i, issuer) in issuers.iter().enumerate() {
            for from in &issuer.rule.from_headers {
                place(&mut places, &from.name, &from.prefix).issuers.push(i);
            }
        }
        places.sort_by_key(|place| std::cmp::Reverse(place.prefix.len()));
        Self { issuers, tokens, places, cache: Cache::new(MAX_CACHED) }
    }

    /// True if there is a way to have an identity.
    pub(super) fn identifies(&self) -> bool {
        !self.places.is_empty()
    }

    /// The headers that may say claims, of any issuer.
    pub(super) fn claim_headers(&self) -> Vec<HeaderName> {
        let rules = self.issuers.iter().flat_map(|issuer| &issuer.rule.claim_to_headers);
        let mut names: Vec<HeaderName> = Vec::new();
        for rule in rules {
            if !names.contains(&rule.header) {
                names.push(rule.header.clone());
            }
        }
        names
    }

    /// Who asks; `None`: there is no token. `Err` says what is wrong with it.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Arc<Identified>>, &'static str> {
        match self.find(headers)? {
            Some((place, token)) => self.verify(place, token, now).map(Some),
            None => Ok(None),
        }
    }

    /// The only token, and the index of its place. Of several, the upstream could take another than was verified.
    fn find<'h>(&self, headers: &'h HeaderMap) -> Result<Option<(usize, &'h [u8])>, &'static str> {
        let mut found = None;
        for (i, first) in self.places.iter().enumerate() {
            let name = &first.header;
            if self.places[..i].iter().any(|place| place.header == *name) {
                continue;
            }
            for header in headers.get_all(name) {
                let mut places = self.places.iter().enumerate().filter(|(_, place)| place.header == *name);
                let token = places.find_map(|(at, place)| Some((at, place.token(header.as_bytes())?)));
                if token.is_some() && found.is_some() {
                    return Err("the request has more than one token");
                }
                found = found.or(token);
            }
        }
        Ok(found)
    }

    fn verify(&self, at: usize, token: &[u8], now: SystemTime) -> Result<Arc<Identified>, &'static str> {
        let place = &self.places[at];
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, token).as_ref());
        if place.tokens
            && let Some(token) = tokens::find(&self.tokens, &sha256)
        {
            return Ok(Arc::new(Identified::by_static_token(token)));
        }
        if place.issuers.is_empty() {
            return Err("the token is not known");
        }
        let is_good = |identified: &Identified| identified.is_good(now);
        if let Some(identified) = self.cache.get(&(sha256, at), is_good) {
            return Ok(identified);
        }
        let identified = Arc::new(self.verify_jwt(place, token, now).map_err(JwtError::text)?);
        if token.len() <= MAX_CACHED_BYTES {
            self.cache.put((sha256, at), Arc::clone(&identified), is_good);
        }
        Ok(identified)
    }

    fn verify_jwt(&self, place: &Place, token: &[u8], now: SystemTime) -> Result<Identified, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::Malformed);
        }
        let token = std::str::from_utf8(token).map_err(|_| JwtError::Malformed)?;
        let unverified = Unverified::parse(token)?;
        let mut error = JwtError::Issuer;
        for Issuer { rule, store } in place.issuers.iter().map(|&i| &self.issuers[i]) {
            if unverified.issuer() != Some(&rule.issuer) {
                continue;
            }
            let keys = store.current();
            match unverified.verify(rule, &keys, now) {
                Ok(verified) => {
                    let headers = claims::headers(&verified.claims, &rule.claim_to_headers);
                    let proof = Proof { expires: verified.expires, store: Arc::clone(store), keys };
                    return Ok(Identified {
                        identity: Identity {
                            principal: verified.principal,
                            claims: Arc::new(verified.claims),
                        },
                        headers,
                        remove: (!rule.forward).then(|| place.header.clone()),
                        proof: Some(proof),
                    });
                }
                Err(why) => {
                    if why == JwtError::UnknownKey {
                        store.want();
                    }
                    error = why;
                }
            }
        }
        Err(error)
    }

    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        self.cache.len()
    }
}

/// The place, which is made if there is none.
fn place<'a>(places: &'a mut Vec<Place>, header: &HeaderName, prefix: &str) -> &'a mut Place {
    let same = |place: &Place| place.header == *header && place.prefix.eq_ignore_ascii_case(prefix);
    let at = places.iter().position(same).unwrap_or(places.len());
    if at == places.len() {
        let (header, prefix) = (header.clone(), prefix.to_owned());
        places.push(Place { header, prefix, issuers: Vec::new(), tokens: false });
    }
    &mut places[at]
}

// === impl Place ===

impl Place {
    /// The token of a header, if it has the prefix; schemes are written in any case (RFC 9110, section 11.1). An empty one
    /// after a prefix is a token that is wrong.
    fn token<'h>(&self, header: &'h [u8]) -> Option<&'h [u8]> {
        let prefix = self.prefix.as_bytes();
        if prefix.is_empty() {
            return Some(header.trim_ascii()).filter(|token| !token.is_empty());
        }
        if header.eq_ignore_ascii_case(prefix.trim_ascii_end()) {
            return Some(b"");
        }
        let (head, token) = header.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some(token.trim_ascii())
    }
}

// === impl Identified ===

impl Identified {
    fn by_static_token(token: &StaticToken) -> Self {
        let principal = format!("tokens/{}", token.name);
        let identity = Identity { principal, claims: Arc::new(Value::Null) };
        Self { identity, headers: Vec::new(), remove: None, proof: None }
    }

    /// False if it expired, or the issuer's keys are others by now.
    fn is_good(&self, now: SystemTime) -> bool {
        let good = |proof: &Proof| now < proof.expires && Arc::ptr_eq(&proof.keys, &proof.store.current());
        self.proof.as_ref().is_none_or(good)
    }
}
