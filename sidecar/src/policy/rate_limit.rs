//! How many requests are let in: a bucket of tokens for each key.

mod lru;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};

use self::lru::Lru;
use crate::config::traffic::RateLimit;

/// The buckets of one policy.
#[derive(Debug)]
pub struct RateLimiter {
    /// Tokens that come in a second.
    rate: f64,
    burst: u32,
    /// By the hash of the key, which is random to outsiders, so that none can be made to share another's bucket. So the
    /// length of keys does not matter.
    hasher: RandomState,
    buckets: Mutex<Lru<Bucket>>,
    limited: AtomicU64,
    forgotten: AtomicU64,
}

/// How many tokens there were, and when.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// What is done with a request, and what to tell its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// It is let in.
    pub allowed: bool,
    /// How many are, at once.
    pub limit: u32,
    /// How many more are, now.
    pub remaining: u32,
    /// When that is `limit` again.
    pub reset: Duration,
    /// When the next one is; zero: now.
    pub retry_after: Duration,
}

/// How many buckets one policy keeps (about 64 bytes each). A full bucket says nothing that a new one does not; of the
/// others the one that was not used for longest makes place, and its key starts anew: counted.
pub const MAX_BUCKETS: usize = 10_000;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

// === impl RateLimiter ===

impl RateLimiter {
    /// Every bucket is full.
    pub fn new(config: &RateLimit) -> Self {
        Self {
            rate: f64::from(config.requests) / config.per.as_secs_f64(),
            burst: config.burst,
            hasher: RandomState::new(),
            buckets: Mutex::new(Lru::new(MAX_BUCKETS)),
            limited: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Takes a token of the key's bucket. Where requests have no key, or not this one, the key is empty.
    pub fn check(&self, key: &[u8], now: Instant) -> Decision {
        let full = Bucket { tokens: f64::from(self.burst), at: now };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, out) = buckets.get_or_insert(self.hasher.hash_one(key), full);
        let tokens = self.tokens(bucket, now);
        let allowed = tokens >= 1.0;
        let left = if allowed { tokens - 1.0 } else { tokens };
        // Time that seems to go back brings no tokens twice.
        *bucket = Bucket { tokens: left, at: now.max(bucket.at) };
        drop(buckets);
        if out.is_some_and(|out| self.tokens(&out, now) < full.tokens) {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        if !allowed {
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        Decision {
            allowed,
            limit: self.burst,
            remaining: whole(left),
            reset: self.time_for(full.tokens - left),
            retry_after: self.time_for(1.0 - left),
        }
    }

    /// How many requests were not let in.
    pub fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    /// How many buckets made place before they were full.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The tokens of a bucket by now.
    fn tokens(&self, bucket: &Bucket, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + elapsed * self.rate).min(f64::from(self.burst))
    }

    /// How long so many tokens take to come.
    fn time_for(&self, tokens: f64) -> Duration {
        Duration::try_from_secs_f64(tokens.max(0.0) / self.rate).unwrap_or(Duration::MAX)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a u32, and saturating")]
fn whole(tokens: f64) -> u32 {
    tokens as u32
}

// === impl Decision ===

impl Decision {
    /// Tells the client. Times are whole seconds, rounded up.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let secs = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(secs(self.reset)));
        if !self.allowed {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs(self.retry_after).max(1)));
        }
    }
}
