//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long a test waits for something that takes milliseconds on an idle machine. Long, because CI is not idle;
/// nothing waits so long when all is well.
pub const DEADLINE: Duration = Duration::from_secs(20);

const INTERVAL: Duration = Duration::from_millis(5);

/// Asks `condition` again and again until it answers.
///
/// # Panics
///
/// When it has not answered within `deadline`; the message says `what` was waited for.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, condition: impl FnMut() -> Option<T>) -> T {
    let answer = within(deadline, condition);
    answer.unwrap_or_else(|| panic!("waited {deadline:?} in vain for {what}"))
}

/// Asks `condition` again and again until it answers, or `deadline` has passed. For clean-up, which must not panic.
#[allow(clippy::disallowed_methods, reason = "between two looks at the condition")]
pub(crate) fn within<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let answer = condition();
        if answer.is_some() || start.elapsed() > deadline {
            return answer;
        }
        std::thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_when_the_condition_does() {
        let mut left = 3;
        let answer = eventually(DEADLINE, "the countdown", || {
            left -= 1;
            (left == 0).then_some("done")
        });
        assert_eq!(answer, "done");
    }

    #[test]
    fn names_what_was_waited_for() {
        let panic = std::panic::catch_unwind(|| {
            eventually(Duration::from_millis(20), "pigs to fly", || None::<()>);
        });
        let message = *panic.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("pigs to fly"), "{message}");
    }
}
