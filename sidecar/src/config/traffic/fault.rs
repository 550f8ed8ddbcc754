//! `spec.fault`.

use std::ops::RangeInclusive;

use crate::config::shape::Spanned;

use super::super::check::Check;
use super::super::value::duration;
use super::super::value::number::number;
use super::super::value::percent::{self, Percent};
use super::model::{Abort, AbortStatus, Delay, Fault, HeaderMatch};
use super::{raw, word};

/// A final status (RFC 9110, section 15).
const STATUSES: RangeInclusive<u16> = 200..=599;
/// How many headers one fault may ask for (Gateway API: 16).
const MAX_HEADERS: usize = 16;

/// Reads the section. Where no share is given, the fault is every request's (Istio).
pub(super) fn read(check: &mut Check<'_>, raw: &raw::Fault) -> Fault {
    Fault {
        delay: raw.delay.as_ref().and_then(|raw| delay(check, raw)),
        abort: raw.abort.as_ref().and_then(|raw| abort(check, raw)),
    }
}

fn delay(check: &mut Check<'_>, raw: &raw::Delay) -> Option<Delay> {
    let percent = check.value_or(
        "spec.fault.delay.percent",
        raw.percent.as_ref(),
        Percent::whole(100),
        percent::parse_bare,
    );
    let headers = headers(check, "spec.fault.delay.headers", &raw.headers);
    let fixed_delay =
        check.value("spec.fault.delay.fixedDelay", &raw.fixed_delay, duration::parse_positive)?;
    Some(Delay { fixed_delay, percent, headers })
}

fn abort(check: &mut Check<'_>, raw: &Spanned<raw::Abort>) -> Option<Abort> {
    const FIELD: &str = "spec.fault.abort";
    let (line, raw) = (raw.line, &raw.value);
    let percent = check.value_or(
        &format!("{FIELD}.percent"),
        raw.percent.as_ref(),
        Percent::whole(100),
        percent::parse_bare,
    );
    let headers = headers(check, &format!("{FIELD}.headers"), &raw.headers);
    let status = match (&raw.http_status, &raw.grpc_status) {
        (Some(text), None) => {
            let status = check.value(&format!("{FIELD}.httpStatus"), text, number(STATUSES))?;
            AbortStatus::HttpStatus(status)
        }
        (None, Some(text)) => {
            let status = check.value(&format!("{FIELD}.grpcStatus"), text, word::grpc_status)?;
            AbortStatus::GrpcStatus(status)
        }
        _ => {
            check.refuse(line, FIELD, "write exactly one of httpStatus and grpcStatus");
            return None;
        }
    };
    Some(Abort { status, percent, headers })
}

fn headers(check: &mut Check<'_>, field: &str, raw: &[raw::HeaderMatch]) -> Vec<HeaderMatch> {
    if let Some(more) = raw.get(MAX_HEADERS) {
        let why = format_args!("{} are more than {MAX_HEADERS}; leave some out", raw.len());
        check.refuse(more.name.line, field, why);
        return Vec::new();
    }
    let one = |(i, raw): (usize, &raw::HeaderMatch)| {
        let name = check.value(&format!("{field}[{i}].name"), &raw.name, word::header_name)?;
        let value = match &raw.value {
            Some(text) => Some(check.value(&format!("{field}[{i}].value"), text, word::header_value)?),
            None => None,
        };
        Some(HeaderMatch { name, value })
    };
    raw.iter().enumerate().filter_map(one).collect()
}
