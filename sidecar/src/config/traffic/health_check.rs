//! `spec.healthCheck`.

use std::ops::RangeInclusive;

use crate::config::shape::Spanned;

use super::super::check::Check;
use super::super::value::duration;
use super::super::value::number::number;
use super::model::{HealthCheck, Probe};
use super::{raw, word};

const STATUSES: RangeInclusive<u16> = 100..=599;
const THRESHOLD: RangeInclusive<u32> = 1..=1_000;
const FIELD: &str = "spec.healthCheck";

/// Reads the section, unless what it asks is wrong.
pub(super) fn read(check: &mut Check<'_>, raw: &Spanned<raw::HealthCheck>) -> Option<HealthCheck> {
    let (line, raw) = (raw.line, &raw.value);
    let probe = match (&raw.http, &raw.tcp, &raw.grpc) {
        (Some(raw), None, None) => http(check, raw),
        (None, Some(raw::TcpProbe {}), None) => Some(Probe::Tcp),
        (None, None, Some(raw)) => {
            let service = raw.service.as_ref();
            let field = format!("{FIELD}.grpc.service");
            Some(Probe::Grpc { service: check.value_or(&field, service, String::new(), word::service) })
        }
        _ => {
            check.refuse(line, FIELD, "write exactly one of http, tcp and grpc");
            None
        }
    };
    let default = HealthCheck::new(Probe::Tcp);
    let at = |leaf: &str| format!("{FIELD}.{leaf}");
    let times = HealthCheck {
        interval: check.value_or(
            &at("interval"),
            raw.interval.as_ref(),
            default.interval,
            duration::parse_positive,
        ),
        timeout: check.value_or(
            &at("timeout"),
            raw.timeout.as_ref(),
            default.timeout,
            duration::parse_positive,
        ),
        unhealthy_threshold: check.value_or(
            &at("unhealthyThreshold"),
            raw.unhealthy_threshold.as_ref(),
            default.unhealthy_threshold,
            number(THRESHOLD),
        ),
        healthy_threshold: check.value_or(
            &at("healthyThreshold"),
            raw.healthy_threshold.as_ref(),
            default.healthy_threshold,
            number(THRESHOLD),
        ),
        probe: Probe::Tcp,
    };
    Some(HealthCheck { probe: probe?, ..times })
}

fn http(check: &mut Check<'_>, raw: &raw::HttpProbe) -> Option<Probe> {
    let host =
        raw.host.as_ref().and_then(|text| check.value(&format!("{FIELD}.http.host"), text, word::host));
    let field = format!("{FIELD}.http.expectedStatuses");
    let expected_statuses = match &raw.expected_statuses {
        Some(texts) => check.set(&field, texts, number(STATUSES)),
        None => vec![200],
    };
    if raw.expected_statuses.as_ref().is_some_and(Vec::is_empty) {
        check.refuse(raw.path.line, &field, "is empty; write at least one status, such as 200");
    }
    let path = check.value(&format!("{FIELD}.http.path"), &raw.path, word::path)?;
    Some(Probe::Http { path, host, expected_statuses })
}
