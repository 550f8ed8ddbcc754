//! The kinds TCPRoute and TLSRoute.

use crate::config::shape::Spanned;

use super::http::{MAX_HOSTNAMES, note_gateways, rule_name};
use super::model::{BackendRef, TcpRoute, TlsRoute};
use super::{backends, hostname, parents, raw};
use crate::config::ObjectName;
use crate::config::check::Check;

/// The TCPRoute of this name, which stands on this line.
pub(super) fn read_tcp(check: &mut Check<'_>, raw: &raw::TcpRoute, name: ObjectName, line: u64) -> TcpRoute {
    note_gateways(check, "TCPRoute", raw.use_default_gateways.as_ref());
    let parents = parents::read(check, &raw.parent_refs, &name.namespace, line);
    let backends = rule(check, &raw.rules, &name.namespace, line);
    TcpRoute { name, parents, backends }
}

/// The TLSRoute of this name, which stands on this line.
pub(super) fn read_tls(check: &mut Check<'_>, raw: &raw::TlsRoute, name: ObjectName, line: u64) -> TlsRoute {
    note_gateways(check, "TLSRoute", raw.use_default_gateways.as_ref());
    let parents = parents::read(check, &raw.parent_refs, &name.namespace, line);
    let hostnames = check.list("spec.hostnames", &raw.hostnames, MAX_HOSTNAMES, |c, field, text| {
        c.value(field, text, hostname::parse)
    });
    let backends = rule(check, &raw.rules, &name.namespace, line);
    TlsRoute { name, parents, hostnames, backends }
}

/// Reads the backends of the only rule: rules without matches would all be the same.
fn rule(check: &mut Check<'_>, raw: &[Spanned<raw::TcpRule>], namespace: &str, line: u64) -> Vec<BackendRef> {
    let rules = check.list("spec.rules", raw, 1, |check, field, raw| {
        rule_name(check, field, raw.value.name.as_ref());
        let field = format!("{field}.backendRefs");
        if raw.value.backend_refs.is_empty() {
            check.refuse(raw.line, &field, "is empty; write at least one backend");
        }
        Some(backends::read(check, &field, &raw.value.backend_refs, None, namespace))
    });
    if raw.is_empty() {
        check.refuse(line, "spec.rules", "is empty; write one rule with backendRefs");
    }
    rules.into_iter().flatten().collect()
}
