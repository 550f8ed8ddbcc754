//! Fault injection: what is made to go wrong with a request.

use std::time::Duration;

use fastrand::Rng;
use hyper::HeaderMap;

use crate::config::Percent;
use crate::config::traffic::{AbortStatus, Fault, HeaderMatch};

/// What is done to a request: first the delay, then the error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Injected {
    /// It waits this long.
    pub delay: Option<Duration>,
    /// It is answered with this, and does not go upstream.
    pub abort: Option<AbortStatus>,
}

/// Decides for a request with these headers. The delay and the error are independent of each other.
pub fn decide(fault: &Fault, headers: &HeaderMap, rng: &mut Rng) -> Injected {
    let mut hit = |percent, matches| has_all(headers, matches) && drawn(percent, rng);
    let delay = fault.delay.as_ref().filter(|delay| hit(delay.percent, &delay.headers));
    let abort = fault.abort.as_ref().filter(|abort| hit(abort.percent, &abort.headers));
    Injected { delay: delay.map(|delay| delay.fixed_delay), abort: abort.map(|abort| abort.status) }
}

fn drawn(percent: Percent, rng: &mut Rng) -> bool {
    rng.u32(0..1_000_000) < percent.millionths()
}

fn has_all(headers: &HeaderMap, matches: &[HeaderMatch]) -> bool {
    matches.iter().all(|wanted| match &wanted.value {
        Some(value) => headers.get_all(&wanted.name).iter().any(|found| found == value),
        None => headers.contains_key(&wanted.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::traffic::{Abort, Delay};

    const SECOND: Duration = Duration::from_secs(1);
    const ABORT: AbortStatus = AbortStatus::HttpStatus(503);

    fn fault(delay: u32, abort: u32, headers: &[(&str, Option<&str>)]) -> Fault {
        let one = |(name, value): &(&str, Option<&str>)| HeaderMatch {
            name: name.parse().unwrap(),
            value: value.map(|value| value.parse().unwrap()),
        };
        let headers: Vec<HeaderMatch> = headers.iter().map(one).collect();
        Fault {
            delay: Some(Delay { fixed_delay: SECOND, percent: Percent::whole(delay), headers: Vec::new() }),
            abort: Some(Abort { status: ABORT, percent: Percent::whole(abort), headers }),
        }
    }

    #[test]
    fn each_has_its_share() {
        let mut rng = Rng::with_seed(7);
        let headers = HeaderMap::new();
        for (delay, abort) in [(0, 100), (100, 0), (10, 50)] {
            let fault = fault(delay, abort, &[]);
            let (mut delays, mut aborts, mut both) = (0_u32, 0_u32, 0_u32);
            for _ in 0..20_000 {
                let Injected { delay, abort } = decide(&fault, &headers, &mut rng);
                delays += u32::from(delay == Some(SECOND));
                aborts += u32::from(abort == Some(ABORT));
                both += u32::from(delay.is_some() && abort.is_some());
            }
            let percent = |count: u32| (count + 100) / 200;
            assert!(percent(delays).abs_diff(delay) <= 1 && percent(aborts).abs_diff(abort) <= 1);
            assert!(percent(both).abs_diff(delay * abort / 100) <= 1, "independent: {both}");
        }
        assert_eq!(decide(&Fault::default(), &headers, &mut rng), Injected::default());
    }

    #[test]
    fn all_headers_must_be_there() {
        let mut rng = Rng::with_seed(7);
        let fault = fault(0, 100, &[("x-chaos", Some("1")), ("x-any", None)]);
        let cases: [(&[(&str, &str)], bool); 5] = [
            (&[], false),
            (&[("x-chaos", "1")], false),
            (&[("x-chaos", "2"), ("x-any", "")], false),
            (&[("x-chaos", "1"), ("x-any", "z")], true),
            (&[("x-chaos", "2"), ("x-chaos", "1"), ("x-any", "z")], true),
        ];
        for (pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap());
            }
            assert_eq!(decide(&fault, &headers, &mut rng).abort.is_some(), expected, "{pairs:?}");
        }
    }
}
