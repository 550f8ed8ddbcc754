//! The kind `Backend`.

use std::ops::RangeInclusive;

use super::check::Check;
use super::model::{Backend, Endpoint, Protocol, Target};
use super::value::number::number;
use super::value::{address, choice, name, path};
use super::{raw, tls};

/// As a weight of the Gateway API's `BackendRef`.
const WEIGHT: RangeInclusive<u32> = 0..=1_000_000;

/// The backend called `name` (on this line), unless it is wrong.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::Backend, name: String, line: u64) -> Option<Backend> {
    let protocol = check.value_or("spec.protocol", raw.protocol.as_ref(), Protocol::default(), choice::parse);
    if raw.endpoints.is_empty() {
        check.refuse(line, "spec.endpoints", "is empty; write at least one address, dns or unix");
        return None;
    }
    let endpoints: Vec<Endpoint> = raw
        .endpoints
        .iter()
        .enumerate()
        .filter_map(|(i, raw)| {
            let field = format!("spec.endpoints[{i}]");
            endpoint(check, &field, &raw.value, raw.line)
        })
        .collect();
    let complete = endpoints.len() == raw.endpoints.len();
    if complete && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        check.refuse(line, "spec.endpoints", "every weight is 0; give one endpoint a weight");
    }
    let tls = raw.tls.as_ref().and_then(|raw| {
        let line = raw.line;
        if protocol == Protocol::Tcp {
            let why =
                "is for requests: bytes are forwarded as they are; write another protocol, or leave it out";
            check.refuse(line, "spec.tls", why);
        }
        tls::read(check, &raw.value, line)
    });
    for (i, (endpoint, raw)) in endpoints.iter().zip(&raw.endpoints).enumerate().filter(|_| complete) {
        if tls.as_ref().is_some_and(|tls| tls.peer(&endpoint.target).is_none()) {
            let why = "nothing says whom its certificate must name; write spec.tls.hostname";
            check.refuse(raw.line, &format!("spec.endpoints[{i}]"), why);
        }
    }
    Some(Backend { name, protocol, tls, endpoints })
}

fn endpoint(check: &mut Check<'_>, field: &str, raw: &raw::Endpoint, line: u64) -> Option<Endpoint> {
    let at = |name: &str| format!("{field}.{name}");
    let weight = check.value_or(&at("weight"), raw.weight.as_ref(), 1, number(WEIGHT));
    let zone = raw.zone.as_ref().and_then(|text| check.value(&at("zone"), text, name::parse_label));
    let target = match (&raw.address, &raw.dns, &raw.unix) {
        (Some(text), None, None) => Target::Address(check.value(&at("address"), text, address::parse)?),
        (None, Some(text), None) => Target::Dns(check.value(&at("dns"), text, address::parse_dns)?),
        (None, None, Some(text)) => Target::Unix(check.value(&at("unix"), text, path::parse_socket)?),
        _ => {
            check.refuse(line, field, "write exactly one of address, dns and unix");
            return None;
        }
    };
    Some(Endpoint { target, weight, zone })
}
