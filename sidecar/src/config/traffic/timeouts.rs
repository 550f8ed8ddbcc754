//! `spec.timeouts`.

use super::super::check::Check;
use super::super::raw::Text;
use super::super::value::duration;
use super::model::Timeouts;
use super::raw;

/// Reads the section.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::Timeouts) -> Timeouts {
    let mut read = |leaf: &str, text: &Option<Text>| {
        text.as_ref().and_then(|text| check.value(&format!("spec.timeouts.{leaf}"), text, duration::parse))
    };
    let timeouts = Timeouts {
        request: read("request", &raw.request),
        backend_request: read("backendRequest", &raw.backend_request),
        idle: read("idle", &raw.idle),
    };
    // As the Gateway API demands (GEP-1742).
    let bound = timeouts.request.filter(|request| !request.is_zero());
    if let (Some(bound), Some(one), Some(text)) = (bound, timeouts.backend_request, &raw.backend_request)
        && one > bound
    {
        let why = "is longer than spec.timeouts.request, which covers all attempts; write less";
        check.refuse_value("spec.timeouts.backendRequest", text, why);
    }
    timeouts
}
