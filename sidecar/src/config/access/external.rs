//! `spec.externalAuthorization` of an `AccessPolicy`.

use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderName};

use super::super::check::Check;
use super::super::raw::Text;
use super::super::value::{choice, duration, header};
use super::model::{ExternalAuthorization, HttpAuthorization};
use super::{MAX_VALUES, raw, url, within};

const TIMEOUT: Duration = Duration::from_millis(500);

pub(super) fn read(check: &mut Check<'_>, raw: &raw::ExternalAuthorization) -> Option<ExternalAuthorization> {
    const FIELD: &str = "spec.externalAuthorization.http";
    let at = |leaf: &str| format!("{FIELD}.{leaf}");
    let raw = &raw.http;
    let headers = match &raw.headers {
        Some(texts) => names(check, &at("headers"), texts),
        None => vec![AUTHORIZATION],
    };
    let allowed_upstream_headers = names(check, &at("allowedUpstreamHeaders"), &raw.allowed_upstream_headers);
    let timeout = check.value_or(&at("timeout"), raw.timeout.as_ref(), TIMEOUT, duration::parse_positive);
    let fail_open = check.value_or(&at("failOpen"), raw.fail_open.as_ref(), false, choice::parse_bool);
    let (url, trust) = url::read(check, (FIELD, "url"), &raw.url, raw.ca_certificates.as_ref())?;
    let http = HttpAuthorization { url, trust, headers, allowed_upstream_headers, timeout, fail_open };
    Some(ExternalAuthorization { http })
}

fn names(check: &mut Check<'_>, field: &str, texts: &[Text]) -> Vec<HeaderName> {
    let texts = within(check, field, texts, MAX_VALUES, |text| text.line);
    let one = |(i, text): (usize, &Text)| check.value(&format!("{field}[{i}]"), text, header::parse_copied);
    texts.iter().enumerate().filter_map(one).collect()
}
