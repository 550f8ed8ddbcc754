//! `spec.listeners` of a `ProxyConfig`.

use std::net::SocketAddr;

use super::build::Forward;
use super::check::Check;
use super::model::{Config, Listener, Unused};
use super::raw;
use super::value::{address, name};

/// How many explicit listeners there may be.
const MAX_LISTENERS: usize = 256;

/// Puts the listeners into `config`, whose ports are known, and returns which backends they name.
pub(super) fn apply(check: &mut Check<'_>, listeners: &[raw::Listener], config: &mut Config) -> Vec<Forward> {
    if let Some(raw) = listeners.get(MAX_LISTENERS) {
        let why = format_args!("{} are more than {MAX_LISTENERS}; leave some out", listeners.len());
        check.refuse(raw.name.line, "spec.listeners", why);
        return Vec::new();
    }
    let mut forwards = Vec::new();
    for (i, raw) in listeners.iter().enumerate() {
        let field = format!("spec.listeners[{i}]");
        let forward = raw.forward.as_ref().and_then(|text| {
            let field = format!("{field}.forward");
            let backend = check.value(&field, text, name::parse)?;
            let at = check.document.at(text.line);
            forwards.push(Forward { backend: backend.clone(), field, at });
            Some(backend)
        });
        let name = listener_name(check, &format!("{field}.name"), raw, config);
        let address = listener_address(check, &format!("{field}.address"), raw, config);
        let (Some(name), Some(address)) = (name, address) else { continue };
        if forward.is_none() {
            let location = check.document.at(raw.name.line);
            config.unused.push(Unused { kind: "Listener".to_owned(), name: name.clone(), location });
        }
        config.listeners.push(Listener { name, address, forward });
    }
    forwards
}

fn listener_name(check: &mut Check<'_>, field: &str, raw: &raw::Listener, config: &Config) -> Option<String> {
    let name = check.value(field, &raw.name, name::parse)?;
    if config.listeners.iter().any(|other| other.name == name) {
        check.refuse_value(field, &raw.name, "is the name of a listener above; rename one");
        return None;
    }
    Some(name)
}

fn listener_address(
    check: &mut Check<'_>,
    field: &str,
    raw: &raw::Listener,
    config: &Config,
) -> Option<SocketAddr> {
    let address = check.value(field, &raw.address, address::parse_listen)?;
    let ports = &config.ports;
    let own = [ports.outbound, ports.inbound, ports.admin, ports.metrics, ports.health];
    if own.contains(&Some(address.port())) {
        check.refuse_value(field, &raw.address, "is a port of spec.ports; write another");
        return None;
    }
    if address.port() != 0 && config.listeners.iter().any(|other| other.address == address) {
        check.refuse_value(field, &raw.address, "is the address of a listener above; write another");
        return None;
    }
    Some(address)
}
