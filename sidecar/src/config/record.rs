//! `spec.accessLog.record` of a `ProxyConfig`: what of requests and answers is in the access log.

use hyper::header::HeaderName;

use super::check::Check;
use super::model::Recording;
use super::raw;
use super::value::choice;
use super::value::size::ByteSize;

/// How many names of header fields may be listed.
const MAX_NAMES: usize = 256;
const BODY: std::ops::RangeInclusive<ByteSize> = ByteSize(0)..=ByteSize(64 * 1024);

/// Why a text is no header's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write the name of a header, such as x-api-key")]
struct NameError;

/// Reads the section. `None`: nothing is recorded.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::Record) -> Option<Recording> {
    let at = |leaf: &str| format!("spec.accessLog.record.{leaf}");
    let mut flag = |leaf: &str, text: &Option<raw::Text>| {
        check.value_or(&at(leaf), text.as_ref(), false, choice::parse_bool)
    };
    let request_headers = flag("requestHeaders", &raw.request_headers);
    let response_headers = flag("responseHeaders", &raw.response_headers);
    let body = check.value_or(&at("body"), raw.body.as_ref(), 0, ByteSize::parse_within(BODY));
    let redact = match &raw.redact {
        None => Recording::default().redact,
        Some(texts) => {
            if let Some(more) = texts.get(MAX_NAMES) {
                let why = format_args!("{} are more than {MAX_NAMES}; leave some out", texts.len());
                check.refuse(more.line, &at("redact"), why);
            }
            check.set(&at("redact"), texts, |text| name(text).map(|name| name.as_str().to_owned()))
        }
    };
    let recording = Recording { request_headers, response_headers, body, redact };
    recording.is_on().then_some(recording)
}

fn name(text: &str) -> Result<HeaderName, NameError> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| NameError)
}
