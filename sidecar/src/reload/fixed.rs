//! What a running process cannot change.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;

use crate::config::Config;

/// Puts what cannot change back to what runs, and returns the fields for which that made a difference.
pub(super) fn keep(running: &Config, new: &mut Config) -> Vec<String> {
    let mut fields = Vec::new();
    let mut kept = |field: &str, old: Value, new: Value| differences(field, &old, &new, &mut fields);
    kept("spec.interception", json(&running.interception), json(&new.interception));
    kept("spec.ports", json(&running.ports), json(&new.ports));
    let connections = "spec.limits.maxConnections";
    kept(connections, json(&running.limits.max_connections), json(&new.limits.max_connections));
    kept("spec.listeners", json(&places(running)), json(&places(new)));
    kept("spec.accessLog", json(&running.access_log), json(&new.access_log));
    new.interception = running.interception.clone();
    new.ports = running.ports;
    new.limits.max_connections = running.limits.max_connections;
    keep_listeners(running, new);
    new.access_log = running.access_log.clone();
    fields
}

/// Lists are compared as a whole, so that a field is one that people write.
fn differences(field: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            found.extend(added.map(|name| format!("{field}.{name}")));
            for (name, old) in old {
                differences(&format!("{field}.{name}"), old, new.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (old, new) if old != new => found.push(field.to_owned()),
        _ => {}
    }
}

/// The dump's names are those of the files.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Where it listens, by name.
fn places(config: &Config) -> BTreeMap<&str, SocketAddr> {
    config.listeners.iter().map(|listener| (listener.name.as_str(), listener.address)).collect()
}

/// The listeners that are bound: those of the new configuration forward as it says, the others as before.
fn keep_listeners(running: &Config, new: &mut Config) {
    let mut listeners = running.listeners.clone();
    for listener in &mut listeners {
        if let Some(other) = new.listeners.iter().find(|other| other.name == listener.name) {
            listener.forward.clone_from(&other.forward);
        } else if let Some(backend) = listener.forward.as_ref().and_then(|name| running.backends.get(name)) {
            new.backends.entry(backend.name.clone()).or_insert_with(|| backend.clone());
        }
    }
    new.listeners = listeners;
}
