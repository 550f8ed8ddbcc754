//! Where in an object its Pods are.

use serde_json::Value;

use super::{Outcome, Refusal, Settings, inject};

/// What became of the Pods of an object.
#[derive(Default, Debug)]
pub(super) struct Changes {
    /// What is left as it is, or should be known, and of which object.
    pub notes: Vec<(String, String)>,
    /// What is refused, and of which object.
    pub refusals: Vec<(String, Refusal)>,
}

/// Kinds with a template at `spec.template`, and the API groups that they are in or were once.
const WORKLOADS: [(&str, &str); 7] = [
    ("apps", "Deployment"),
    ("extensions", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("batch", "Job"),
    ("", "ReplicationController"),
];

/// Whether there may be Pods in an object.
pub(super) fn may_have_pods(object: &Value) -> bool {
    is_list(object) || template_at(object).is_some()
}

/// Injects into every Pod of an object.
pub(super) fn change(object: &mut Value, settings: &Settings, changes: &mut Changes) {
    if !is_list(object) {
        return change_one(object, settings, changes);
    }
    let group = object.get("apiVersion").cloned();
    let kind = field(object, "kind").strip_suffix("List").unwrap_or_default().to_owned();
    let items = object.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        // The items of a DeploymentList need not say what they are.
        let untold = item.get("kind").is_none() && item.is_object() && !kind.is_empty();
        if untold {
            item["kind"] = kind.clone().into();
            item["apiVersion"] = group.clone().unwrap_or_default();
        }
        change_one(item, settings, changes);
        if let Some(item) = item.as_object_mut().filter(|_| untold) {
            item.remove("kind");
            item.remove("apiVersion");
        }
    }
}

/// `KIND NAME`, for people.
fn title(object: &Value) -> String {
    let metadata = object.get("metadata");
    let named = |field| metadata.and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
    let name = named("name").or_else(|| named("generateName")).unwrap_or("without a name");
    format!("{} {name}", field(object, "kind"))
}

fn change_one(object: &mut Value, settings: &Settings, changes: &mut Changes) {
    let Some(path) = template_at(object) else { return };
    let title = title(object);
    let Some(template) = object.pointer_mut(path) else {
        let missing = Refusal::shape(&path.trim_start_matches('/').replace('/', "."), "there");
        changes.refusals.push((title, missing));
        return;
    };
    match inject(template, settings) {
        Ok(Outcome::Injected(injected, warnings)) => {
            *template = injected;
            changes.notes.extend(warnings.into_iter().map(|warning| (title.clone(), warning)));
        }
        Ok(Outcome::OptedOut) => {}
        Ok(Outcome::Left(reason)) => changes.notes.push((title, format!("is left as it is: {reason}"))),
        Err(refusal) => changes.refusals.push((title, refusal)),
    }
}

/// Where the Pod or its template is (RFC 6901).
fn template_at(object: &Value) -> Option<&'static str> {
    let (version, kind) = (field(object, "apiVersion"), field(object, "kind"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("", "Pod") => Some(""),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        found if WORKLOADS.contains(&found) => Some("/spec/template"),
        _ => None,
    }
}

fn is_list(object: &Value) -> bool {
    field(object, "kind").ends_with("List") && object.get("items").is_some_and(Value::is_array)
}

fn field<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}
