use super::*;

const FIRST: Attempt = Attempt { retries: 0, idempotent: true, replayable: true };
const POST: Attempt = Attempt { idempotent: false, ..FIRST };

const UNANSWERED: [Outcome; 5] = [
    Outcome::ConnectFailure,
    Outcome::RefusedStream,
    Outcome::ResetBeforeRequest,
    Outcome::Reset,
    Outcome::Timeout,
];

fn policy(codes: &[u16], on: &[RetryOn]) -> RetryPolicy {
    RetryPolicy::new(Retry { codes: codes.to_vec(), on: on.to_vec(), ..Retry::default() })
}

fn status(status: u16) -> Outcome {
    Outcome::Response { status, grpc_status: None }
}

#[test]
fn answers_are_as_configured() {
    let all: Vec<u16> = (200..=599).collect();
    let cases: [(&[u16], &[RetryOn], Vec<u16>); 5] = [
        (&[], &[], vec![]),
        (&[429, 503], &[], vec![429, 503]),
        (&[], &[RetryOn::GatewayError], vec![502, 503, 504]),
        (&[418], &[RetryOn::ServerError], std::iter::once(418).chain(500..=599).collect()),
        (&[], &[RetryOn::Retriable4xx], vec![409]),
    ];
    for (codes, on, expected) in cases {
        let policy = policy(codes, on);
        for attempt in [FIRST, POST] {
            let found: Vec<u16> =
                all.iter().copied().filter(|code| policy.decide(attempt, status(*code))).collect();
            assert_eq!(found, expected, "{codes:?} {on:?}");
        }
    }
}

#[test]
fn grpc_statuses_are_as_configured() {
    let cases = [
        (RetryOn::Cancelled, 1),
        (RetryOn::DeadlineExceeded, 4),
        (RetryOn::ResourceExhausted, 8),
        (RetryOn::Internal, 13),
        (RetryOn::Unavailable, 14),
    ];
    for (on, expected) in cases {
        let policy = policy(&[], &[on]);
        let retried = |code| policy.decide(POST, Outcome::Response { status: 200, grpc_status: Some(code) });
        let found: Vec<u8> = (0..=16).filter(|code| retried(*code)).collect();
        assert_eq!(found, [expected], "{on:?}");
    }
}

#[test]
fn without_an_answer_the_method_counts_where_the_upstream_may_have_acted() {
    use Outcome::{ConnectFailure, RefusedStream, Reset, ResetBeforeRequest, Timeout};
    let cases: [(RetryOn, &[Outcome], &[Outcome]); 6] = [
        (RetryOn::ConnectFailure, &[ConnectFailure], &[ConnectFailure]),
        (RetryOn::RefusedStream, &[RefusedStream], &[RefusedStream]),
        (RetryOn::ResetBeforeRequest, &[ResetBeforeRequest], &[ResetBeforeRequest]),
        (
            RetryOn::Reset,
            &[ConnectFailure, RefusedStream, ResetBeforeRequest, Reset, Timeout],
            &[ConnectFailure, RefusedStream, ResetBeforeRequest],
        ),
        (
            RetryOn::ServerError,
            &[ConnectFailure, RefusedStream, ResetBeforeRequest, Reset, Timeout],
            &[ConnectFailure, RefusedStream, ResetBeforeRequest],
        ),
        (RetryOn::Unavailable, &[], &[]),
    ];
    for (on, get, post) in cases {
        let policy = policy(&[503], &[on]);
        let of = |attempt| -> Vec<Outcome> {
            UNANSWERED.into_iter().filter(|outcome| policy.decide(attempt, *outcome)).collect()
        };
        assert_eq!((of(FIRST).as_slice(), of(POST).as_slice()), (get, post), "{on:?}");
    }
}

#[test]
fn attempts_are_bounded_and_a_lost_body_is_not_sent_again() {
    let policy = policy(&[503], &[]);
    let decide = |retries| policy.decide(Attempt { retries, ..FIRST }, status(503));
    assert_eq!([0, 1, 2, 3].map(decide), [true, true, false, false]);
    assert!(!policy.decide(Attempt { replayable: false, ..FIRST }, status(503)));
    let none = RetryPolicy::new(Retry { attempts: 0, ..policy.config().clone() });
    assert!(!none.decide(FIRST, status(503)));
}

#[test]
fn waits_are_jittered_between_nothing_and_their_bound() {
    let policy = policy(&[], &[]);
    let mut rng = Rng::with_seed(7);
    for (retry, most) in [(1, 25.0), (2, 75.0), (3, 175.0), (4, 250.0), (5, 250.0), (40, 250.0)] {
        let waits: Vec<f64> =
            (0..2_000).map(|_| policy.backoff(retry, &mut rng).as_secs_f64() * 1_000.0).collect();
        let mean = waits.iter().sum::<f64>() / 2_000.0;
        assert!(waits.iter().all(|wait| (0.0..=most).contains(wait)), "{retry}");
        assert!((mean / most - 0.5).abs() < 0.03, "{retry}: {mean} of {most}");
    }
}

#[test]
fn what_the_upstream_asks_for_is_kept_up_to_a_bound() {
    let policy = policy(&[], &[]);
    let mut rng = Rng::with_seed(7);
    let secs = Duration::from_secs;
    assert_eq!(policy.wait(1, Some(secs(1)), &mut rng), Some(secs(1)));
    assert_eq!(policy.wait(1, Some(secs(5)), &mut rng), Some(secs(5)));
    assert_eq!(policy.wait(1, Some(secs(6)), &mut rng), None);
    assert!(policy.wait(1, Some(secs(0)), &mut rng).is_some_and(|wait| wait < secs(1)));
    for (text, expected) in [("3", Some(secs(3))), ("", None), ("Fri, 20 Nov 2026 00:00:00 GMT", None)] {
        let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
        assert_eq!(retry_after(&headers), expected, "{text}");
    }
    assert_eq!(retry_after(&HeaderMap::new()), None);
}

#[test]
fn what_is_late_is_hedged_where_that_is_configured() {
    let policy = policy(&[503], &[]);
    let hedging = RetryPolicy::new(Retry { hedge_on_per_try_timeout: true, ..policy.config().clone() });
    assert!(!policy.hedges(FIRST));
    assert!(hedging.hedges(FIRST) && hedging.hedges(POST));
    assert!(!hedging.hedges(Attempt { replayable: false, ..FIRST }));
    assert!(!hedging.hedges(Attempt { retries: 2, ..FIRST }));
}
