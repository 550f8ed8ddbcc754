//! What a running process cannot change.

use serde::Serialize;
use serde_json::Value;

use crate::config::Config;

/// Puts what cannot change back to what runs, and returns the fields for which that made a difference.
pub(super) fn keep(running: &Config, new: &mut Config) -> Vec<String> {
    let mut fields = Vec::new();
    let mut kept = |field: &str, old: Value, new: Value| differences(field, &old, &new, &mut fields);
    kept("spec.interception", json(&running.interception), json(&new.interception));
    kept("spec.ports", json(&running.ports), json(&new.ports));
    kept("spec.listeners", json(&running.listeners), json(&new.listeners));
    kept("spec.limits", json(&running.limits), json(&new.limits));
    kept("spec.timeouts", without_drain(json(&running.timeouts)), without_drain(json(&new.timeouts)));
    kept("spec.accessLog", json(&running.access_log), json(&new.access_log));
    kept("spec.protocolDetection", json(&running.protocol_detection), json(&new.protocol_detection));
    new.interception = running.interception.clone();
    new.ports = running.ports;
    new.listeners.clone_from(&running.listeners);
    new.limits = running.limits;
    new.timeouts.connect = running.timeouts.connect;
    new.timeouts.idle = running.timeouts.idle;
    new.access_log = running.access_log.clone();
    new.protocol_detection = running.protocol_detection.clone();
    fields
}

/// Lists are compared as a whole, so that a field is one that people write.
fn differences(field: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
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

/// Asked for when the process ends.
fn without_drain(mut timeouts: Value) -> Value {
    if let Value::Object(fields) = &mut timeouts {
        fields.remove("drain");
    }
    timeouts
}
