//! Puts the sidecar into Pods: a pure change of what Kubernetes is told, for `sidecar inject` and `sidecar webhook` alike.
//!
//! What is added and why is in `docs/injection.md`. The application's own containers stay as they are, with their probes: the
//! kernel half hands a probe of the kubelet to the proxy as any client's connection, with the kubelet's address, or leaves it
//! alone where its port is not captured. Nothing needs to be rewritten.
//!
//! What a mounted token or `fsGroup` means for files holds as before: the proxy reads no token, `sidecar-run` is for everyone,
//! and a `ConfigMap` is readable by all. One thing shifts: the kubelet gives a projected token to a Pod's one user (0600) and,
//! as soon as users differ, to everyone (0644); the application reads it either way.

pub mod manifest;
mod object;
mod parts;
mod refuse;
mod resources;
mod status;
mod yaml;

#[cfg(test)]
pub(crate) mod tests;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use self::parts::Wanted;
pub use self::refuse::Refusal;
pub use self::resources::{Quantity, Resources};
use self::status::Status;
use crate::kubernetes::annotations::{self, Annotations, Overrides, PodMode};

/// How the sidecar is put in, where a Pod's annotations say nothing else.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What arms the Pod.
    pub mode: PodMode,
    /// The proxy is an init container that stays (Kubernetes 1.29).
    pub native: bool,
    /// The image of both containers.
    pub image: String,
    /// When it is pulled; `None`: as Kubernetes decides by its tag.
    pub image_pull_policy: Option<PullPolicy>,
    /// What the containers ask for and may take.
    pub resources: Resources,
    /// What becomes of a Pod that was injected before.
    pub again: Again,
}

/// What becomes of a Pod that was injected before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// What is in it is replaced: a manifest follows the version and the annotations.
    Replace,
    /// What is in it stays, if it is all there: it may be of somebody's choice by hand, and others may have added to it.
    Keep,
}

/// When an image is pulled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// If the node has none.
    IfNotPresent,
    /// The node must have it.
    Never,
}

/// What became of a Pod template.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// This, which is what was given if it was injected before; and what people should know.
    Injected(Value, Vec<String>),
    /// It asked for that.
    OptedOut,
    /// It was left as it is, for this reason.
    Left(String),
}

/// The proxy's container.
pub const PROXY: &str = "sidecar-proxy";
/// The container that arms the Pod.
pub const INIT: &str = "sidecar-init";
/// The proxy's user.
pub const PROXY_UID: u32 = 1337;

/// The proxy's ports, on which no application can listen.
const PROXY_PORTS: [u64; 5] = [15000, 15001, 15006, 15020, 15021];

/// Puts the sidecar into a Pod, or a template of one: an object with `metadata` and `spec`.
pub fn inject(template: &Value, settings: &Settings) -> Result<Outcome, Refusal> {
    let marks = strings(template, "annotations")?;
    if annotations::asks_for_sidecar(&strings(template, "labels")?, &marks)? == Some(false) {
        return Ok(Outcome::OptedOut);
    }
    let mut changed = template.clone();
    let before = Status::take(&mut changed)?;
    let spec = spec_of(&mut changed)?;
    let containers = refuse::containers(spec)?;
    if let Some(reason) = refuse::out_of_reach(spec, &marks) {
        return Ok(Outcome::Left(reason));
    }
    refuse::proxys_user(spec, &containers)?;
    if settings.again == Again::Keep && before.is_complete() {
        return Ok(Outcome::Injected(before.in_order(template), Vec::new()));
    }
    if containers.iter().any(|container| name(container) == Some(PROXY)) {
        return Ok(Outcome::Left(format!("it brings a container {PROXY} of its own")));
    }
    let wanted = wanted(spec, &marks, settings)?;
    refuse::what_is_in_the_way(spec, &containers, &wanted)?;
    let warnings = warnings(&containers);
    let status = put(spec, &wanted, &before)?;
    let annotations = object_in(object_in(object(&mut changed)?, "metadata")?, "annotations")?;
    annotations.insert(annotations::STATUS.to_owned(), status.to_json().into());
    Ok(Outcome::Injected(changed, warnings))
}

/// What this Pod is to get.
fn wanted(spec: &Map<String, Value>, marks: &Annotations, settings: &Settings) -> Result<Wanted, Refusal> {
    let mode = annotations::mode(marks)?.unwrap_or(settings.mode);
    let restarts = spec.get("restartPolicy").and_then(Value::as_str).is_none_or(|policy| policy == "Always");
    Ok(Wanted {
        mode,
        native: settings.native,
        // A native sidecar is ended by the kubelet.
        until_alone: !restarts && !settings.native,
        config: annotations::config_map(marks)?,
        log_level: annotations::log_level(marks)?,
        overrides: Overrides::from_annotations(marks)?.to_args(),
        image: settings.image.clone(),
        image_pull_policy: settings.image_pull_policy,
        resources: settings.resources.overridden(marks)?,
    })
}

/// Adds what is wanted, and says what that was.
fn put(spec: &mut Map<String, Value>, wanted: &Wanted, before: &Status) -> Result<Status, Refusal> {
    let mut status = Status::of(wanted);
    let proxy = before.carried_over(wanted.proxy());
    let inits = list_in(spec, "initContainers")?;
    let mut first = 0;
    if wanted.mode == PodMode::Init {
        let init = before.carried_over(wanted.init());
        status.init_containers.push(INIT.to_owned());
        // The init containers of the application keep their network, unless the proxy is there before them.
        let at = if wanted.native { 0 } else { inits.len() };
        inits.insert(at, init);
        first = 1;
    }
    if wanted.native {
        status.init_containers.push(PROXY.to_owned());
        inits.insert(first, proxy);
    } else {
        status.containers.push(PROXY.to_owned());
        let containers = list_in(spec, "containers")?;
        // Containers start in their order: a proxy that is to leave after the application has to see it first.
        let at = if wanted.until_alone { 0 } else { containers.len() };
        containers.insert(at, proxy);
    }
    if spec.get("initContainers").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        spec.remove("initContainers");
    }
    let volumes = wanted.volumes();
    status.volumes = volumes.iter().filter_map(|volume| name(volume).map(str::to_owned)).collect();
    list_in(spec, "volumes")?.extend(volumes);
    if wanted.until_alone && spec.get("shareProcessNamespace") != Some(&Value::Bool(true)) {
        spec.insert("shareProcessNamespace".to_owned(), json!(true));
        status.share_process_namespace = true;
    }
    Ok(status)
}

/// A port that the application says it listens on, which the proxy needs.
fn warnings(containers: &[Value]) -> Vec<String> {
    let ports = containers.iter().flat_map(|container| {
        let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let ports = ports.filter_map(|port| port.get("containerPort").and_then(Value::as_u64));
        ports.map(move |port| (name(container).unwrap_or_default(), port))
    });
    ports
        .filter(|(_, port)| PROXY_PORTS.contains(port))
        .map(|(container, port)| {
            format!(
                "container {container}: port {port} is one of the proxy's; give the application another, or set \
                 `spec.ports` of its ProxyConfig"
            )
        })
        .collect()
}

/// The name of a container or volume.
fn name(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

/// The labels or annotations of a template.
fn strings(template: &Value, field: &'static str) -> Result<Annotations, Refusal> {
    let found = match template.get("metadata").and_then(|metadata| metadata.get(field)) {
        None | Some(Value::Null) => return Ok(Annotations::new()),
        Some(found) => found.as_object().ok_or_else(|| Refusal::shape(field, "a map of texts"))?,
    };
    found
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            _ => Err(Refusal::shape(&format!("{field} {name}"), "a text; put it in quotes")),
        })
        .collect()
}

fn object(value: &mut Value) -> Result<&mut Map<String, Value>, Refusal> {
    value.as_object_mut().ok_or_else(|| Refusal::shape("the Pod", "a map"))
}

fn spec_of(template: &mut Value) -> Result<&mut Map<String, Value>, Refusal> {
    let spec = template.get_mut("spec").and_then(Value::as_object_mut);
    spec.ok_or_else(|| Refusal::shape("spec of the Pod", "a map with containers"))
}

/// A map of a map, made if it is not there.
fn object_in<'a>(
    map: &'a mut Map<String, Value>,
    field: &str,
) -> Result<&'a mut Map<String, Value>, Refusal> {
    let found = map.entry(field).or_insert(Value::Null);
    if found.is_null() {
        *found = json!({});
    }
    found.as_object_mut().ok_or_else(|| Refusal::shape(field, "a map"))
}

/// A list of a map, made if it is not there.
fn list_in<'a>(map: &'a mut Map<String, Value>, field: &str) -> Result<&'a mut Vec<Value>, Refusal> {
    let found = map.entry(field).or_insert(Value::Null);
    if found.is_null() {
        *found = json!([]);
    }
    found.as_array_mut().ok_or_else(|| Refusal::shape(field, "a list"))
}
