//! `spec.outlierDetection`.

use super::super::check::Check;
use super::super::raw::Text;
use super::super::value::number::number;
use super::super::value::{duration, percent};
use super::model::{OutlierDetection, SuccessRate};
use super::raw;

/// Reads the section.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::OutlierDetection) -> OutlierDetection {
    let default = OutlierDetection::default();
    let at = |leaf: &str| format!("spec.outlierDetection.{leaf}");
    let base = check.value_or(
        &at("baseEjectionTime"),
        raw.base_ejection_time.as_ref(),
        default.base_ejection_time,
        duration::parse_positive,
    );
    let max = check.value_or(
        &at("maxEjectionTime"),
        raw.max_ejection_time.as_ref(),
        default.max_ejection_time.max(base),
        duration::parse_positive,
    );
    if let Some(text) = raw.max_ejection_time.as_ref().filter(|_| max < base) {
        check.refuse_value(&at("maxEjectionTime"), text, "is shorter than baseEjectionTime; write more");
    }
    OutlierDetection {
        consecutive_5xx_errors: check.value_or(
            &at("consecutive5xxErrors"),
            raw.consecutive_5xx_errors.as_ref(),
            default.consecutive_5xx_errors,
            number(0..=u32::MAX),
        ),
        consecutive_gateway_errors: check.value_or(
            &at("consecutiveGatewayErrors"),
            raw.consecutive_gateway_errors.as_ref(),
            default.consecutive_gateway_errors,
            number(0..=u32::MAX),
        ),
        interval: check.value_or(
            &at("interval"),
            raw.interval.as_ref(),
            default.interval,
            duration::parse_positive,
        ),
        base_ejection_time: base,
        max_ejection_time: max,
        max_ejection_percent: check.value_or(
            &at("maxEjectionPercent"),
            raw.max_ejection_percent.as_ref(),
            default.max_ejection_percent,
            percent::parse_bare,
        ),
        min_health_percent: check.value_or(
            &at("minHealthPercent"),
            raw.min_health_percent.as_ref(),
            default.min_health_percent,
            percent::parse_bare,
        ),
        success_rate: success_rate(check, raw),
    }
}

/// Rates are looked at where a factor is given.
fn success_rate(check: &mut Check<'_>, raw: &raw::OutlierDetection) -> Option<SuccessRate> {
    let default = SuccessRate::default();
    let mut read = |leaf: &str, text: &Option<Text>, default: u32| {
        let field = format!("spec.outlierDetection.{leaf}");
        check.value_or(&field, text.as_ref(), default, number(1..=1_000_000))
    };
    let rate = SuccessRate {
        stdev_factor: read("successRateStdevFactor", &raw.success_rate_stdev_factor, default.stdev_factor),
        minimum_hosts: read(
            "successRateMinimumHosts",
            &raw.success_rate_minimum_hosts,
            default.minimum_hosts,
        ),
        request_volume: read(
            "successRateRequestVolume",
            &raw.success_rate_request_volume,
            default.request_volume,
        ),
    };
    if raw.success_rate_stdev_factor.is_some() {
        return Some(rate);
    }
    let idle = [
        ("successRateMinimumHosts", &raw.success_rate_minimum_hosts),
        ("successRateRequestVolume", &raw.success_rate_request_volume),
    ];
    for (leaf, text) in idle {
        if let Some(text) = text {
            let why = "has no effect without successRateStdevFactor; write that too, such as 1900";
            check.refuse_value(&format!("spec.outlierDetection.{leaf}"), text, why);
        }
    }
    None
}
