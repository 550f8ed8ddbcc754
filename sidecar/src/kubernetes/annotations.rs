//! What the annotations of a Pod say, each under our name and, where there is one, under Istio's; ours counts where both
//! are given.

mod overrides;
mod selection;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Display;

use clap::ValueEnum;
use serde::Serialize;

pub use self::overrides::Overrides;
pub use self::selection::{Item, Selection};
use crate::config::value::{choice, name};
use crate::observe::log;

/// The annotations, or labels, of an object.
pub type Annotations = BTreeMap<String, String>;

/// `"true"` or `"false"`, as an annotation or a label of a Pod: whether it gets a sidecar. As a label of a namespace,
/// [`ENABLED`] enrols its Pods.
pub const INJECT: &str = "sidecar.dev/inject";
/// The value of [`INJECT`] for namespaces.
pub const ENABLED: &str = "enabled";
/// The `ConfigMap` with the configuration.
pub const CONFIG: &str = "sidecar.dev/config";
/// What arms the Pod: `init` or `agent`.
pub const MODE: &str = "sidecar.dev/mode";
/// The level of both containers' logs, as `--log` takes it.
pub const LOG_LEVEL: &str = "sidecar.dev/log-level";
/// What was injected, as JSON. Not for users.
pub const STATUS: &str = "sidecar.dev/status";

/// How much of a wrong value is shown, in characters.
const SHOWN: usize = 80;

/// What arms a Pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PodMode {
    /// A privileged init container of its own.
    #[default]
    Init,
    /// The agent of its node.
    Agent,
}

/// A value that an annotation cannot have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{annotation}: {value:?}: {remedy}")]
pub struct AnnotationError {
    /// The annotation's name.
    pub annotation: &'static str,
    /// What it says, cut off where it is long.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

// === impl AnnotationError ===

impl AnnotationError {
    /// About this value of this annotation.
    pub fn new(annotation: &'static str, value: &str, remedy: impl Display) -> Self {
        let value = value.chars().take(SHOWN).collect();
        Self { annotation, value, remedy: remedy.to_string() }
    }
}

/// Whether a Pod asks for a sidecar or for none; `None`: it says nothing, and its namespace decides. Where label and
/// annotation differ, "false" counts.
pub fn asks_for_sidecar(
    labels: &Annotations,
    annotations: &Annotations,
) -> Result<Option<bool>, AnnotationError> {
    let label = read(labels, INJECT, choice::parse_bool)?;
    let annotation = read(annotations, INJECT, choice::parse_bool)?;
    Ok(match (label, annotation) {
        (Some(label), Some(annotation)) => Some(label && annotation),
        (label, annotation) => label.or(annotation),
    })
}

/// What is to arm the Pod, if it says so.
pub fn mode(annotations: &Annotations) -> Result<Option<PodMode>, AnnotationError> {
    read(annotations, MODE, choice::parse)
}

/// The `ConfigMap` that the Pod names.
pub fn config_map(annotations: &Annotations) -> Result<Option<String>, AnnotationError> {
    read(annotations, CONFIG, |text| match name::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("write the name of a ConfigMap of the Pod's namespace"),
    })
}

/// What the Pod's containers are to log.
pub fn log_level(annotations: &Annotations) -> Result<Option<String>, AnnotationError> {
    read(annotations, LOG_LEVEL, |text| log::check(text).map(|()| text.to_owned()))
}

/// The value of an annotation, if it is there.
fn read<T, E: Display>(
    annotations: &Annotations,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, AnnotationError> {
    let Some(text) = annotations.get(name) else { return Ok(None) };
    parse(text.trim()).map(Some).map_err(|remedy| AnnotationError::new(name, text, remedy))
}
