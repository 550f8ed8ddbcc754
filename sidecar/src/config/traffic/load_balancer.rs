//! `spec.loadBalancer`.

use crate::config::shape::Spanned;
use clap::ValueEnum;

use super::super::check::Check;
use super::super::value::{choice, duration, name};
use super::model::{Algorithm, HashKey, LoadBalancer};
use super::raw;
use super::word::{self, Source};

/// The words of `type`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(super) enum Type {
    RoundRobin,
    LeastRequest,
    PeakEwma,
    Random,
    ConsistentHash,
}

const FIELD: &str = "spec.loadBalancer";

/// Reads the section, unless its hash is wrong.
pub(super) fn read(check: &mut Check<'_>, raw: &Spanned<raw::LoadBalancer>) -> Option<LoadBalancer> {
    let (line, raw) = (raw.line, &raw.value);
    let field = format!("{FIELD}.type");
    let kind = check.value_or(&field, raw.algorithm.as_ref(), Type::LeastRequest, choice::parse);
    let algorithm = match kind {
        Type::RoundRobin => Algorithm::RoundRobin,
        Type::LeastRequest => Algorithm::LeastRequest,
        Type::PeakEwma => Algorithm::PeakEwma,
        Type::Random => Algorithm::Random,
        Type::ConsistentHash => Algorithm::ConsistentHash(hash_key(check, raw, line)?),
    };
    let (only, without) = match kind {
        // The key alone says where a request goes.
        Type::ConsistentHash => {
            ([("slowStart", &raw.slow_start), ("zone", &raw.zone), ("zoneAware", &raw.zone_aware)], "with")
        }
        _ => ([("header", &raw.header), ("cookie", &raw.cookie), ("source", &raw.source)], "without"),
    };
    for (leaf, text) in only {
        if let Some(text) = text {
            let why = format_args!("has no effect {without} type ConsistentHash; leave it out");
            check.refuse_value(&format!("{FIELD}.{leaf}"), text, why);
        }
    }
    let slow_start = raw
        .slow_start
        .as_ref()
        .and_then(|text| check.value(&format!("{FIELD}.slowStart"), text, duration::parse_positive));
    Some(LoadBalancer { algorithm, slow_start, zone: zone(check, raw) })
}

fn hash_key(check: &mut Check<'_>, raw: &raw::LoadBalancer, line: u64) -> Option<HashKey> {
    match (&raw.header, &raw.cookie, &raw.source) {
        (Some(text), None, None) => {
            check.value(&format!("{FIELD}.header"), text, word::header_name).map(HashKey::Header)
        }
        (None, Some(text), None) => {
            check.value(&format!("{FIELD}.cookie"), text, word::cookie).map(HashKey::Cookie)
        }
        (None, None, Some(text)) => check
            .value(&format!("{FIELD}.source"), text, choice::parse::<Source>)
            .map(|Source::Address| HashKey::Source),
        _ => {
            let why =
                "type ConsistentHash hashes by one thing; write exactly one of header, cookie and source";
            check.refuse(line, FIELD, why);
            None
        }
    }
}

/// The zone that is preferred: the one given, unless `zoneAware` is false.
fn zone(check: &mut Check<'_>, raw: &raw::LoadBalancer) -> Option<String> {
    let zone =
        raw.zone.as_ref().and_then(|text| check.value(&format!("{FIELD}.zone"), text, name::parse_label));
    let field = format!("{FIELD}.zoneAware");
    let aware = check.value_or(&field, raw.zone_aware.as_ref(), raw.zone.is_some(), choice::parse_bool);
    if let Some(text) = raw.zone_aware.as_ref().filter(|_| aware && raw.zone.is_none()) {
        check.refuse_value(&field, text, "needs the proxy's own zone; write it into zone");
    }
    zone.filter(|_| aware)
}
