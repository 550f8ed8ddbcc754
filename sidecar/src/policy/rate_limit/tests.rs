use super::*;

fn limiter(requests: u32, per: Duration, burst: u32) -> RateLimiter {
    RateLimiter::new(&RateLimit { requests, per, burst, key: None })
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How many of many requests are let in.
fn admitted(limiter: &RateLimiter, key: &[u8], now: Instant) -> usize {
    (0..1_000).filter(|_| limiter.check(key, now).allowed).count()
}

#[test]
fn a_burst_and_then_the_rate() {
    let start = Instant::now();
    let limiter = limiter(100, secs(1), 50);
    assert_eq!(admitted(&limiter, b"", start), 50);
    assert_eq!(limiter.limited(), 950);
    let mut more = 0;
    for millis in 1..=1_000 {
        more += admitted(&limiter, b"", start + Duration::from_millis(millis));
    }
    assert_eq!(more, 100);
    assert_eq!(admitted(&limiter, b"", start + secs(100)), 50, "no more than the bucket holds");
}

#[test]
fn slow_rates_are_exact() {
    let start = Instant::now();
    let limiter = limiter(2, secs(60), 1);
    let admitted: Vec<u64> = (0..=120).filter(|at| limiter.check(b"", start + secs(*at)).allowed).collect();
    assert_eq!(admitted, [0, 30, 60, 90, 120]);
}

#[test]
fn keys_have_buckets_of_their_own() {
    let now = Instant::now();
    let limiter = limiter(1, secs(1), 3);
    assert_eq!(admitted(&limiter, b"a", now), 3);
    assert_eq!(admitted(&limiter, b"b", now), 3);
    assert_eq!(admitted(&limiter, b"a", now), 0);
}

#[test]
fn time_that_goes_back_brings_nothing() {
    let now = Instant::now();
    let limiter = limiter(1, secs(1), 3);
    assert_eq!(admitted(&limiter, b"", now + secs(10)), 3);
    assert_eq!(admitted(&limiter, b"", now), 0);
    assert_eq!(admitted(&limiter, b"", now + secs(10)), 0);
}

#[test]
fn the_client_is_told() {
    let now = Instant::now();
    let limiter = limiter(1, secs(2), 2);
    let told = |decision: Decision| {
        let mut headers = HeaderMap::new();
        decision.apply(&mut headers);
        let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"];
        names.map(|name| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned()).join(" ")
    };
    let first = limiter.check(b"", now);
    let expected =
        Decision { allowed: true, limit: 2, remaining: 1, reset: secs(2), retry_after: Duration::ZERO };
    assert_eq!(first, expected);
    assert_eq!(told(first), "2 1 2 -");
    assert_eq!(told(limiter.check(b"", now)), "2 0 4 -");
    assert_eq!(told(limiter.check(b"", now)), "2 0 4 2");
    assert_eq!(told(limiter.check(b"", now + Duration::from_millis(500))), "2 0 4 2");
    assert_eq!(told(limiter.check(b"", now + Duration::from_millis(1_999))), "2 0 3 1");
}

#[test]
fn buckets_are_bounded_and_forgetting_is_counted() {
    let start = Instant::now();
    let limiter = limiter(1, secs(1), 1);
    let fill = |from: usize, now| {
        for key in from..from + MAX_BUCKETS {
            assert!(limiter.check(&key.to_le_bytes(), now).allowed);
        }
    };
    fill(0, start);
    assert_eq!(limiter.forgotten(), 0);
    // By then all are full again.
    fill(MAX_BUCKETS, start + secs(1));
    assert_eq!(limiter.forgotten(), 0);
    fill(2 * MAX_BUCKETS, start + secs(1));
    assert_eq!(limiter.forgotten(), MAX_BUCKETS as u64);
}
