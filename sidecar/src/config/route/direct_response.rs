//! The kind DirectResponse.

use std::ops::RangeInclusive;

use http::HeaderName;

use super::header_edits::{parse_name, parse_value};
use super::model::DirectResponse;
use super::raw;
use crate::config::check::Check;
use crate::config::value::number::number;

/// The statuses of whole responses.
const STATUS: RangeInclusive<u16> = 200..=599;
const MAX_HEADERS: usize = 64;
/// No Content, Reset Content, Not Modified: they have no body (RFC 9110, section 15).
const WITHOUT_BODY: [u16; 3] = [204, 205, 304];

/// The answer of this name, which stands on this line.
pub(super) fn read(
    check: &mut Check<'_>,
    raw: &raw::DirectResponse,
    name: String,
    line: u64,
) -> Option<DirectResponse> {
    let mut headers = Vec::new();
    if raw.headers.len() > MAX_HEADERS {
        let why = format_args!("{} are more than {MAX_HEADERS}; leave some out", raw.headers.len());
        check.refuse(line, "spec.headers", why);
        return None;
    }
    for (name, text) in &raw.headers {
        let field = format!("spec.headers.{}", name.escape_debug());
        let parsed = parse_name(name);
        let value = parse_value(check, &field, text);
        match parsed {
            Ok(name) if headers.iter().any(|(other, _): &(HeaderName, _)| *other == name) => {
                check.refuse(text.line, &field, "is given twice; leave one out");
            }
            Ok(name) => headers.extend(value.map(|value| (name, value))),
            Err(why) => check.refuse(text.line, &field, why),
        }
    }
    let Some(status) = &raw.status else {
        check.refuse(line, "spec.status", "is required");
        return None;
    };
    let status = check.value("spec.status", status, number(STATUS))?;
    let body = raw.body.as_ref().map(|text| text.value.clone()).unwrap_or_default();
    if let Some(text) = &raw.body
        && WITHOUT_BODY.contains(&status)
        && !body.is_empty()
    {
        check.refuse_value("spec.body", text, format_args!("a response {status} has no body; leave it out"));
    }
    Some(DirectResponse { name, status, headers, body })
}
