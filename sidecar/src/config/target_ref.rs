//! `targetRefs` of policies: what they are about (GEP-713).

use crate::config::shape::Spanned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::raw::Text;
use super::schema;
use super::value::{name, port};

/// How many targets one policy may have (Gateway API: 16).
const MAX_TARGETS: usize = 16;
/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// An object of a namespace. Displays as `NAMESPACE/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name in it.
    pub name: String,
}

/// What a policy is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetRef {
    /// A Backend.
    Backend(String),
    /// A Service.
    Service(ObjectName),
    /// An HTTPRoute or GRPCRoute.
    Route(ObjectName),
    /// An explicit listener.
    Listener(String),
    /// This workload's own port.
    Inbound(u16),
}

/// A target as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTargetRef {
    /// Its API group: sidecar.dev, gateway.networking.k8s.io, or empty for a Service.
    pub group: Option<Text>,
    /// Service, HTTPRoute, GRPCRoute, Backend, Listener or Inbound.
    pub kind: Text,
    /// Its name; all but Inbound have one.
    pub name: Option<Text>,
    /// Its namespace. Default: the policy's own.
    pub namespace: Option<Text>,
    /// The workload's own port, of Inbound.
    #[schemars(with = "Option<schema::Port>")]
    pub port: Option<Text>,
}

/// Reads `spec.targetRefs`, which stands on this line, of a policy in `namespace`.
pub(super) fn read(
    check: &mut Check<'_>,
    raw: &[Spanned<RawTargetRef>],
    namespace: &str,
    line: u64,
) -> Vec<TargetRef> {
    const FIELD: &str = "spec.targetRefs";
    if raw.is_empty() {
        check.refuse(line, FIELD, "is empty; write at least one target");
    }
    if let Some(more) = raw.get(MAX_TARGETS) {
        let why = format_args!("{} are more than {MAX_TARGETS}; leave some out", raw.len());
        check.refuse(more.line, FIELD, why);
        return Vec::new();
    }
    let one = |(i, raw): (usize, &Spanned<RawTargetRef>)| {
        target(check, &format!("{FIELD}[{i}]"), &raw.value, raw.line, namespace)
    };
    raw.iter().enumerate().filter_map(one).collect()
}

fn target(
    check: &mut Check<'_>,
    field: &str,
    raw: &RawTargetRef,
    line: u64,
    namespace: &str,
) -> Option<TargetRef> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let group = raw.group.as_ref().map_or("", |group| group.value.as_str());
    let namespace = match &raw.namespace {
        Some(text) => check.value(&at("namespace"), text, name::parse)?,
        None => namespace.to_owned(),
    };
    let mut named = || {
        let Some(text) = &raw.name else {
            check.refuse(line, &at("name"), "is required");
            return None;
        };
        check.value(&at("name"), text, name::parse)
    };
    match (group, raw.kind.value.as_str()) {
        ("sidecar.dev", "Backend") => named().map(TargetRef::Backend),
        ("sidecar.dev", "Listener") => named().map(TargetRef::Listener),
        ("", "Service") => named().map(|name| TargetRef::Service(ObjectName { namespace, name })),
        ("gateway.networking.k8s.io", "HTTPRoute" | "GRPCRoute") => {
            named().map(|name| TargetRef::Route(ObjectName { namespace, name }))
        }
        ("sidecar.dev", "Inbound") => {
            let Some(text) = &raw.port else {
                check.refuse(line, &at("port"), "is required");
                return None;
            };
            check.value(&at("port"), text, port::parse).map(TargetRef::Inbound)
        }
        (group, kind) => {
            let why = format_args!(
                "{kind:?} of group {group:?} is no target; write a Service (group \"\"), HTTPRoute or GRPCRoute (group \
                 gateway.networking.k8s.io), or a Backend, Listener or Inbound (group sidecar.dev)"
            );
            check.refuse(line, &at("kind"), why);
            None
        }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
