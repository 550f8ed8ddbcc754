//! `spec.parentRefs`: where a route applies.

use crate::config::shape::Spanned;

use super::model::ParentRef;
use super::raw;
use crate::config::ObjectName;
use crate::config::check::{Check, Referent};
use crate::config::raw::Text;
use crate::config::value::{name, port};

const FIELD: &str = "spec.parentRefs";
/// As many as the Gateway API allows.
const MAX_PARENTS: usize = 32;

/// Reads the parents of a route in `namespace` whose name stands on this line.
pub(super) fn read(
    check: &mut Check<'_>,
    raw: &[Spanned<raw::ParentRef>],
    namespace: &str,
    line: u64,
) -> Vec<ParentRef> {
    if raw.is_empty() {
        check.refuse(
            line,
            FIELD,
            "is empty; name at least one parent: a Service, or a Listener or Inbound of sidecar.dev",
        );
    }
    let mut parents = check.list(FIELD, raw, MAX_PARENTS, |check, field, raw| {
        parent(check, field, &raw.value, raw.line, namespace)
    });
    parents.sort();
    parents.dedup();
    parents
}

fn parent(
    check: &mut Check<'_>,
    field: &str,
    raw: &raw::ParentRef,
    line: u64,
    namespace: &str,
) -> Option<ParentRef> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let group = raw.group.as_ref().map_or("gateway.networking.k8s.io", |text| &text.value);
    let kind = raw.kind.as_ref().map_or("Gateway", |text| &text.value);
    if let Some(text) = &raw.section_name {
        check.refuse_value(&at("sectionName"), text, "is not supported; write port instead");
    }
    match (group, kind) {
        ("", "Service") => {
            let namespace = match &raw.namespace {
                Some(text) => check.value(&at("namespace"), text, name::parse)?,
                None => namespace.to_owned(),
            };
            let name = required(check, &at("name"), raw.name.as_ref(), line, name::parse)?;
            let port = match &raw.port {
                Some(text) => Some(check.value(&at("port"), text, port::parse)?),
                None => None,
            };
            Some(ParentRef::Service { name: ObjectName { namespace, name }, port })
        }
        ("sidecar.dev", "Inbound") => {
            let port = required(check, &at("port"), raw.port.as_ref(), line, port::parse)?;
            Some(ParentRef::Inbound { port })
        }
        ("sidecar.dev", "Listener") => {
            if let Some(text) = &raw.port {
                check.refuse_value(&at("port"), text, "a listener has one port already; leave this out");
            }
            let text = raw.name.as_ref();
            let name = required(check, &at("name"), text, line, name::parse)?;
            let line = text.map_or(line, |text| text.line);
            check.refer(Referent::Listener, &name, &at("name"), line);
            Some(ParentRef::Listener { name })
        }
        (group, kind) => {
            let why = format_args!(
                "{kind:?} of group {group:?} is no parent here; write a Service (group \"\"), or a Listener or Inbound \
                 (group sidecar.dev)"
            );
            check.refuse(line, &at("kind"), why);
            None
        }
    }
}

fn required<T, E: std::fmt::Display>(
    check: &mut Check<'_>,
    field: &str,
    text: Option<&Text>,
    line: u64,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<T> {
    let Some(text) = text else {
        check.refuse(line, field, "is required");
        return None;
    };
    check.value(field, text, parse)
}
