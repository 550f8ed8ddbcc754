//! `spec.rateLimit`.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::shape::Spanned;

use super::super::check::Check;
use super::super::value::number::number;
use super::super::value::{choice, duration};
use super::model::{RateLimit, RateLimitKey};
use super::raw;
use super::word::{self, Source};

const REQUESTS: RangeInclusive<u32> = 1..=1_000_000_000;
const DEFAULT_PER: Duration = Duration::from_secs(1);
/// A bucket that takes longer to fill is a quota, which this is not.
const MAX_PER: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the section, unless its number or key is wrong.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::RateLimit) -> Option<RateLimit> {
    let field = "spec.rateLimit.per";
    let per = check.value_or(field, raw.per.as_ref(), DEFAULT_PER, duration::parse_positive);
    if let Some(text) = raw.per.as_ref().filter(|_| per > MAX_PER) {
        check.refuse_value(field, text, "is longer than 24h; write less");
    }
    let burst =
        raw.burst.as_ref().and_then(|text| check.value("spec.rateLimit.burst", text, number(REQUESTS)));
    let key = match &raw.key {
        Some(raw) => Some(key(check, raw)?),
        None => None,
    };
    let requests = check.value("spec.rateLimit.requests", &raw.requests, number(REQUESTS))?;
    Some(RateLimit { requests, per, burst: burst.unwrap_or(requests), key })
}

fn key(check: &mut Check<'_>, raw: &Spanned<raw::RateLimitKey>) -> Option<RateLimitKey> {
    const FIELD: &str = "spec.rateLimit.key";
    let at = |leaf: &str| format!("{FIELD}.{leaf}");
    match (&raw.value.header, &raw.value.source, &raw.value.claim) {
        (Some(text), None, None) => {
            check.value(&at("header"), text, word::header_name).map(RateLimitKey::Header)
        }
        (None, Some(text), None) => check
            .value(&at("source"), text, choice::parse::<Source>)
            .map(|Source::Address| RateLimitKey::Source),
        (None, None, Some(text)) => check.value(&at("claim"), text, word::claim).map(RateLimitKey::Claim),
        _ => {
            let why = "write exactly one of header, source and claim, or leave key out for one bucket";
            check.refuse(raw.line, FIELD, why);
            None
        }
    }
}
