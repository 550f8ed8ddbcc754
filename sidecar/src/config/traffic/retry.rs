//! `spec.retry` and `spec.retryBudget`.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::shape::Spanned;

use super::super::check::Check;
use super::super::value::number::number;
use super::super::value::size::ByteSize;
use super::super::value::{choice, duration, percent};
use super::model::{Retry, RetryBudget};
use super::raw;

/// More than this is a loop, not a policy.
const ATTEMPTS: RangeInclusive<u32> = 0..=100;
/// What a retry may follow (Gateway API).
const CODES: RangeInclusive<u16> = 400..=599;
/// Each request under way may hold as much.
const BODY: RangeInclusive<ByteSize> = ByteSize(0)..=ByteSize(16 << 20);
/// The longest wait where only the first is given (Envoy).
const MAX_OF_BASE: u32 = 10;

/// Reads `spec.retry`.
pub(super) fn read(check: &mut Check<'_>, raw: &Spanned<raw::Retry>) -> Retry {
    let raw = &raw.value;
    let default = Retry::default();
    let at = |leaf: &str| format!("spec.retry.{leaf}");
    let per_try_timeout = raw
        .per_try_timeout
        .as_ref()
        .and_then(|text| check.value(&at("perTryTimeout"), text, duration::parse_positive));
    let hedge = raw.hedge_on_per_try_timeout.as_ref();
    let hedges = check.value_or(&at("hedgeOnPerTryTimeout"), hedge, false, choice::parse_bool);
    if let Some(text) = hedge.filter(|_| hedges && raw.per_try_timeout.is_none()) {
        check.refuse_value(
            &at("hedgeOnPerTryTimeout"),
            text,
            "needs a time-out; write one into perTryTimeout",
        );
    }
    let (base_interval, max_interval) = backoff(check, raw.backoff.as_ref(), &default);
    Retry {
        attempts: check.value_or(&at("attempts"), raw.attempts.as_ref(), default.attempts, number(ATTEMPTS)),
        codes: check.set(&at("codes"), &raw.codes, number(CODES)),
        on: match &raw.on {
            Some(texts) => check.set(&at("on"), texts, choice::parse),
            None => default.on,
        },
        per_try_timeout,
        base_interval,
        max_interval,
        body_bytes: check.value_or(
            &at("bodyBytes"),
            raw.body_bytes.as_ref(),
            default.body_bytes,
            ByteSize::parse_within(BODY),
        ),
        hedge_on_per_try_timeout: hedges,
    }
}

/// The first and the longest wait.
fn backoff(check: &mut Check<'_>, raw: Option<&raw::Backoff>, default: &Retry) -> (Duration, Duration) {
    let Some(raw) = raw else { return (default.base_interval, default.max_interval) };
    let field = "spec.retry.backoff.baseInterval";
    let base =
        check.value_or(field, raw.base_interval.as_ref(), default.base_interval, duration::parse_positive);
    let field = "spec.retry.backoff.maxInterval";
    let longest = base.saturating_mul(MAX_OF_BASE);
    let max = check.value_or(field, raw.max_interval.as_ref(), longest, duration::parse_positive);
    if let Some(text) = raw.max_interval.as_ref().filter(|_| max < base) {
        check.refuse_value(field, text, "is shorter than baseInterval; write more");
    }
    (base, max)
}

/// Reads `spec.retryBudget`.
pub(super) fn read_budget(check: &mut Check<'_>, raw: &raw::RetryBudget) -> RetryBudget {
    let default = RetryBudget::default();
    RetryBudget {
        percent: check.value_or(
            "spec.retryBudget.percent",
            raw.percent.as_ref(),
            default.percent,
            percent::parse_bare,
        ),
        min_retries_per_second: check.value_or(
            "spec.retryBudget.minRetriesPerSecond",
            raw.min_retries_per_second.as_ref(),
            default.min_retries_per_second,
            number(0..=1_000_000),
        ),
    }
}
