//! `backendRefs`: who gets a rule's requests or connections.

use std::ops::RangeInclusive;

use crate::config::shape::Spanned;

use super::filters::{self, Place};
use super::model::{BackendRef, BackendTarget};
use super::raw;
use crate::config::ObjectName;
use crate::config::check::Check;
use crate::config::raw::Text;
use crate::config::value::number::number;
use crate::config::value::{name, port};

/// As many as the Gateway API allows.
const MAX_BACKENDS: usize = 16;
/// Likewise.
const WEIGHT: RangeInclusive<u32> = 0..=1_000_000;

/// What a reference to a backend says.
struct Names<'a> {
    group: Option<&'a Text>,
    kind: Option<&'a Text>,
    namespace: Option<&'a Text>,
    name: &'a Text,
    port: Option<&'a Text>,
}

/// Reads the backends of a rule in `namespace`, with filters if they have a place.
pub(super) fn read(
    check: &mut Check<'_>,
    field: &str,
    raw: &[Spanned<raw::BackendRef>],
    place: Option<Place>,
    namespace: &str,
) -> Vec<BackendRef> {
    check.list(field, raw, MAX_BACKENDS, |check, field, raw| {
        let (line, raw) = (raw.line, &raw.value);
        let weight = check.value_or(&format!("{field}.weight"), raw.weight.as_ref(), 1, number(WEIGHT));
        let filters = match place {
            Some(place) => filters::read(check, &format!("{field}.filters"), &raw.filters, place, namespace),
            None => Vec::new(),
        };
        if let (None, Some(filter)) = (place, raw.filters.first()) {
            let field = format!("{field}.filters");
            check.refuse(filter.line, &field, "connections have no filters; leave them out");
        }
        let names = Names {
            group: raw.group.as_ref(),
            kind: raw.kind.as_ref(),
            namespace: raw.namespace.as_ref(),
            name: &raw.name,
            port: raw.port.as_ref(),
        };
        let target = target(check, field, &names, line, namespace)?;
        Some(BackendRef { target, weight, filters })
    })
}

/// Reads a single backend.
pub(super) fn read_one(
    check: &mut Check<'_>,
    field: &str,
    raw: &Spanned<raw::ObjectRef>,
    namespace: &str,
) -> Option<BackendTarget> {
    let (line, raw) = (raw.line, &raw.value);
    let names = Names {
        group: raw.group.as_ref(),
        kind: raw.kind.as_ref(),
        namespace: raw.namespace.as_ref(),
        name: &raw.name,
        port: raw.port.as_ref(),
    };
    target(check, field, &names, line, namespace)
}

/// Whether there is such an object shows when all documents are read (see `resolve`). Another namespace needs no
/// `ReferenceGrant`: all documents are of one author.
fn target(
    check: &mut Check<'_>,
    field: &str,
    names: &Names<'_>,
    line: u64,
    namespace: &str,
) -> Option<BackendTarget> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let group = names.group.map_or("", |text| &text.value);
    let kind = names.kind.map_or("Service", |text| &text.value);
    let namespace = match names.namespace {
        Some(text) => check.value(&at("namespace"), text, name::parse)?,
        None => namespace.to_owned(),
    };
    let name = check.value(&at("name"), names.name, name::parse)?;
    match (group, kind) {
        ("sidecar.dev", "Backend") => {
            if let Some(text) = names.port {
                check.refuse_value(
                    &at("port"),
                    text,
                    "a Backend's endpoints have their ports; leave this out",
                );
            }
            Some(BackendTarget::Backend(name))
        }
        ("", "Service") => {
            let Some(text) = names.port else {
                check.refuse(line, &at("port"), "is required for a Service");
                return None;
            };
            let port = check.value(&at("port"), text, port::parse)?;
            Some(BackendTarget::Service { name: ObjectName { namespace, name }, port })
        }
        (group, kind) => Some(BackendTarget::Invalid(format!(
            "{kind:?} of group {group:?} is no backend here; write a Service (group \"\") or a Backend (group sidecar.dev)"
        ))),
    }
}
