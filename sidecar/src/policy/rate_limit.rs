//! How many requests are let in: a bucket of tokens for each key.

pub mod key;
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
    /// How many tokens come in `per` nanoseconds. A token has `per` parts, of which `requests` come each nanosecond: so
    /// nothing is ever rounded.
    requests: u128,
    per: u128,
    burst: u32,
    /// By the hash of the key, which is random to outsiders, so that none can be made to share another's bucket. So the
    /// length of keys does not matter.
    hasher: RandomState,
    buckets: Mutex<Lru<Bucket>>,
    limited: AtomicU64,
    forgotten: AtomicU64,
}

/// How many parts of tokens there were, and when.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    parts: u128,
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

/// How many buckets one policy keeps (about 100 bytes each). A full bucket says nothing that a new one does not; of the
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
            requests: u128::from(config.requests.max(1)),
            per: config.per.as_nanos().max(1),
            burst: config.burst,
            hasher: RandomState::new(),
            buckets: Mutex::new(Lru::new(MAX_BUCKETS)),
            limited: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Takes a token of the bucket of this key (`key::key_of`).
    pub fn check(&self, key: &[u8], now: Instant) -> Decision {
        let full = Bucket { parts: self.full(), at: now };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, out) = buckets.get_or_insert(self.hasher.hash_one(key), full);
        let parts = self.parts(bucket, now);
        let allowed = parts >= self.per;
        let left = if allowed { parts - self.per } else { parts };
        // Time that seems to go back brings no tokens twice.
        *bucket = Bucket { parts: left, at: now.max(bucket.at) };
        drop(buckets);
        if out.is_some_and(|out| self.parts(&out, now) < full.parts) {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        if !allowed {
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        Decision {
            allowed,
            limit: self.burst,
            remaining: u32::try_from(left / self.per).unwrap_or(u32::MAX),
            reset: self.time_for(full.parts - left),
            retry_after: self.time_for(self.per.saturating_sub(left)),
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

    /// A full bucket's parts.
    fn full(&self) -> u128 {
        self.per * u128::from(self.burst)
    }

    /// A bucket's parts by now.
    fn parts(&self, bucket: &Bucket, now: Instant) -> u128 {
        let elapsed = now.saturating_duration_since(bucket.at).as_nanos();
        (bucket.parts + elapsed * self.requests).min(self.full())
    }

    /// How long so many parts take to come.
    fn time_for(&self, parts: u128) -> Duration {
        let nanos = u64::try_from(parts.div_ceil(self.requests)).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos)
    }
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
