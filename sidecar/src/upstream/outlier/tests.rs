use super::*;
use crate::config::Percent;

const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn config() -> OutlierDetection {
    OutlierDetection { max_ejection_percent: Percent::whole(50), ..OutlierDetection::default() }
}

/// Records so many outcomes; what the last one changed.
fn repeat(
    detector: &Detector,
    endpoint: usize,
    outcome: Outcome,
    times: u32,
    now: Instant,
) -> Option<Change> {
    (0..times).filter_map(|_| detector.record(endpoint, outcome, now)).last()
}

fn ejected(endpoint: usize, cause: Cause, lasts: Duration) -> Change {
    Change::Ejected { endpoint, cause, lasts }
}

#[test]
fn statuses_are_outcomes() {
    let cases = [
        (200, Outcome::Success),
        (429, Outcome::Success),
        (500, Outcome::ServerError),
        (501, Outcome::ServerError),
        (502, Outcome::GatewayError),
        (504, Outcome::GatewayError),
        (505, Outcome::ServerError),
    ];
    for (status, expected) in cases {
        assert_eq!(Outcome::of_status(status), expected, "{status}");
    }
}

#[test]
fn errors_in_a_row_eject() {
    let now = Instant::now();
    let detector = Detector::new(config(), NAMES);
    assert_eq!(repeat(&detector, 0, Outcome::ServerError, 4, now), None);
    assert_eq!(repeat(&detector, 0, Outcome::Success, 1, now), None);
    assert_eq!(repeat(&detector, 0, Outcome::ServerError, 4, now), None);
    let change = detector.record(0, Outcome::GatewayError, now);
    assert_eq!(change, Some(ejected(0, Cause::Consecutive5xx, secs(30))));
    assert!(detector.is_ejected(0) && !detector.is_ejected(1));
    assert_eq!(repeat(&detector, 0, Outcome::ServerError, 50, now), None, "it is out already");
    assert_eq!((detector.ejected_count(), detector.spared()), (1, 0));
    assert_eq!(detector.record(99, Outcome::ServerError, now), None);
}

#[test]
fn gateway_errors_have_a_row_of_their_own() {
    let now = Instant::now();
    let config = OutlierDetection { consecutive_5xx_errors: 0, consecutive_gateway_errors: 2, ..config() };
    let detector = Detector::new(config, NAMES);
    assert_eq!(repeat(&detector, 0, Outcome::ServerError, 100, now), None);
    detector.record(0, Outcome::GatewayError, now);
    detector.record(0, Outcome::ServerError, now);
    assert_eq!(detector.record(0, Outcome::GatewayError, now), None);
    let change = detector.record(0, Outcome::GatewayError, now);
    assert_eq!(change, Some(ejected(0, Cause::ConsecutiveGatewayErrors, secs(30))));
}

#[test]
fn each_ejection_is_longer_and_quiet_intervals_are_forgiven() {
    let start = Instant::now();
    let detector = Detector::new(OutlierDetection { max_ejection_time: secs(70), ..config() }, NAMES);
    let mut now = start;
    for lasts in [30, 60, 70, 70] {
        let change = repeat(&detector, 3, Outcome::ServerError, 5, now);
        assert_eq!(change, Some(ejected(3, Cause::Consecutive5xx, secs(lasts))));
        assert_eq!(detector.tick(now + secs(lasts - 1)), []);
        now += secs(lasts);
        assert_eq!(detector.tick(now), [Change::Returned { endpoint: 3 }]);
        assert!(!detector.is_ejected(3));
    }
    // Two quiet intervals take two steps back, from three.
    assert_eq!(detector.tick(now), []);
    assert_eq!(detector.tick(now), []);
    let change = repeat(&detector, 3, Outcome::ServerError, 5, now);
    assert_eq!(change, Some(ejected(3, Cause::Consecutive5xx, secs(60))));
}

#[test]
fn not_more_than_the_share_is_ejected_but_one() {
    let now = Instant::now();
    let out = |percent, least, count: usize| {
        let config = OutlierDetection {
            max_ejection_percent: Percent::whole(percent),
            min_health_percent: Percent::whole(least),
            ..config()
        };
        let detector = Detector::new(config, NAMES.into_iter().take(count));
        for endpoint in 0..count {
            repeat(&detector, endpoint, Outcome::ServerError, 5, now);
        }
        assert_eq!(usize::try_from(detector.spared()), Ok(count - detector.ejected_count()));
        detector.ejected_count()
    };
    let cases = [
        ((50, 0, 10), 5),
        ((10, 0, 10), 1),
        ((19, 0, 10), 1),
        ((10, 0, 3), 1),
        ((10, 0, 1), 1),
        ((0, 0, 10), 0),
        ((100, 0, 10), 10),
        ((100, 70, 10), 3),
        ((100, 75, 2), 0),
    ];
    for ((percent, least, count), expected) in cases {
        assert_eq!(out(percent, least, count), expected, "{percent} {least} {count}");
    }
}

#[test]
fn a_rate_far_below_the_others_ejects() {
    let now = Instant::now();
    let with = |rate: SuccessRate| {
        let config = OutlierDetection { consecutive_5xx_errors: 0, success_rate: Some(rate), ..config() };
        Detector::new(config, NAMES)
    };
    let fill = |detector: &Detector, requests: u32| {
        for endpoint in 0..NAMES.len() {
            let bad = if endpoint == 4 { requests / 2 } else { requests / 100 };
            repeat(detector, endpoint, Outcome::ServerError, bad, now);
            repeat(detector, endpoint, Outcome::Success, requests - bad, now);
        }
    };
    let detector = with(SuccessRate::default());
    fill(&detector, 99);
    assert_eq!(detector.tick(now), [], "too few requests");
    fill(&detector, 100);
    assert_eq!(detector.tick(now), [ejected(4, Cause::SuccessRate, secs(30))]);
    assert_eq!(detector.tick(now), [], "the counts began anew");
    let many = with(SuccessRate { minimum_hosts: 11, ..SuccessRate::default() });
    fill(&many, 100);
    assert_eq!(many.tick(now), [], "too few hosts");
    let wide = with(SuccessRate { stdev_factor: 4_000, ..SuccessRate::default() });
    fill(&wide, 100);
    assert_eq!(wide.tick(now), []);
}

#[test]
fn what_is_known_of_endpoints_that_stay_is_kept() {
    let now = Instant::now();
    let before = Detector::new(config(), ["a", "b", "c"]);
    repeat(&before, 1, Outcome::ServerError, 5, now);
    repeat(&before, 2, Outcome::ServerError, 4, now);
    let after = before.renew(config(), ["c", "new", "b"]);
    assert_eq!([0, 1, 2].map(|i| after.is_ejected(i)), [false, false, true]);
    assert_eq!(after.tick(now + secs(30)), [Change::Returned { endpoint: 2 }]);
    assert!(after.record(0, Outcome::ServerError, now).is_some(), "the fifth in a row");
}
