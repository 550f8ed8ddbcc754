//! How long this process has run.

use std::fs;
use std::time::Duration;

/// Both times that are compared here have hundredths of seconds (proc(5): `USER_HZ` is 100 on all our platforms).
const HUNDREDTH: Duration = Duration::from_millis(10);

/// Since it was forked; `None`: /proc does not say.
pub fn own() -> Option<Duration> {
    let begun = crate::instance::start_time(i32::try_from(std::process::id()).ok()?)?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let now = seconds.parse::<u64>().ok()? * 100 + hundredths.parse::<u64>().ok()?;
    HUNDREDTH.checked_mul(u32::try_from(now.saturating_sub(begun)).ok()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test_has_not_run_for_long() {
        let age = super::own().unwrap();
        assert!(age < std::time::Duration::from_secs(3600), "{age:?}");
    }
}
