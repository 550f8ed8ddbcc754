use std::future::pending;
use std::pin::pin;

use tokio::time::{sleep, timeout};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn watched(idle: Duration) -> Arc<Watched> {
    Watched::new(idle, Instant::now())
}

/// What a request is over by that is never decided, and after how long.
async fn over(watched: &Watched) -> (Over, Duration) {
    let started = Instant::now();
    let over = watched.within(pin!(pending::<()>())).await.unwrap_err();
    (over, started.elapsed())
}

fn list_is_empty() -> bool {
    WATCH.with_borrow(|watch| watch.list.iter().all(Option::is_none))
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_exactly_and_the_earliest_counts() {
    let first = watched(3600 * SECOND);
    first.limit_until(Instant::now() + 5 * SECOND, Over::Request);
    first.limit_until(Instant::now() + 2 * SECOND, Over::Attempt);
    first.limit_until(Instant::now() + 9 * SECOND, Over::Request);
    let (over, elapsed) = over(&first).await;
    assert_eq!((over, elapsed.as_secs()), (Over::Attempt, 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_later_may_be_over_sooner() {
    let long = watched(3600 * SECOND);
    long.limit_until(Instant::now() + 60 * SECOND, Over::Request);
    sleep(SECOND).await;
    let short = watched(Duration::ZERO);
    short.limit_until(Instant::now() + SECOND, Over::Request);
    let (over, elapsed) = over(&short).await;
    assert_eq!((over, elapsed.as_secs()), (Over::Request, 1));
    assert_eq!(long.over(), None);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_request_and_movement_does_not() {
    let watched = watched(4 * SECOND);
    for _ in 0..10 {
        sleep(3 * SECOND).await;
        watched.moved();
        assert_eq!(watched.over(), None);
    }
    let (over, elapsed) = over(&watched).await;
    assert_eq!(over, Over::Idle);
    assert!((4 * SECOND..=5 * SECOND + SECOND / 10).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_lift_the_limit() {
    let watched = watched(SECOND);
    watched.limit_idle(Duration::ZERO, Instant::now());
    let waiting = pin!(pending::<()>());
    assert!(timeout(7 * 24 * 3600 * SECOND, watched.within(waiting)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_ended_is_not_over_and_not_kept() {
    let (first, second) = (watched(SECOND), watched(SECOND));
    first.limit_until(Instant::now() + SECOND, Over::Request);
    first.end();
    second.end();
    assert!(list_is_empty());
    sleep(10 * SECOND).await;
    assert_eq!((first.over(), second.over()), (None, None));
    assert_eq!(WATCH.with_borrow(|watch| watch.next), None, "nobody looks any more");
    // And again.
    let third = watched(SECOND);
    assert_eq!(over(&third).await.0, Over::Idle);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_by_itself_is_given_up() {
    let mut begun = None;
    let serving = pin!(async {
        begun = Some(watched(SECOND));
        pending::<()>().await;
    });
    let mut last = None;
    assert_eq!(until_over(serving, &mut last).await, Err(Over::Idle));
    // One that is over has nothing to do with what is served next.
    last.as_ref().unwrap().end();
    let serving = pin!(sleep(10 * SECOND));
    assert_eq!(until_over(serving, &mut last).await, Ok(()));
}
