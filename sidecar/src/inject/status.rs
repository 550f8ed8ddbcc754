//! What was injected: written down in an annotation, by which it is found again and replaced.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::parts::Wanted;
use super::{INIT, Refusal, list_in, name, object, spec_of};
use crate::kubernetes::annotations::{PodMode, STATUS};

/// The annotation `sidecar.dev/status`, and the containers that it lists as they were.
#[derive(Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub mode: String,
    pub version: String,
    pub containers: Vec<String>,
    pub init_containers: Vec<String>,
    pub volumes: Vec<String>,
    /// It was not so before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub share_process_namespace: bool,
    #[serde(skip)]
    taken: Vec<Value>,
}

/// What others add to a container of ours: the mounted token of its service account, variables.
const OF_OTHERS: [&str; 2] = ["env", "volumeMounts"];

impl Status {
    /// Of what is about to be put in, but for the names.
    pub(super) fn of(wanted: &Wanted) -> Self {
        let mode = match wanted.mode {
            PodMode::Init => "init",
            PodMode::Agent => "agent",
        };
        Self { mode: mode.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), ..Self::default() }
    }

    /// Takes out of a Pod what was injected before.
    pub(super) fn take(template: &mut Value) -> Result<Self, Refusal> {
        let metadata = template.get_mut("metadata").and_then(Value::as_object_mut);
        let annotations =
            metadata.and_then(|metadata| metadata.get_mut("annotations")).and_then(Value::as_object_mut);
        let Some(text) = annotations.and_then(|annotations| annotations.remove(STATUS)) else {
            return Ok(Self::default());
        };
        let read = text.as_str().and_then(|text| serde_json::from_str::<Self>(text).ok());
        let mut status = read.ok_or(Refusal::Status)?;
        object(template)?;
        let spec = spec_of(template)?;
        let (containers, inits) = (status.containers.clone(), status.init_containers.clone());
        status.taken.extend(remove(spec, "containers", &containers)?);
        status.taken.extend(remove(spec, "initContainers", &inits)?);
        remove(spec, "volumes", &status.volumes.clone())?;
        if status.share_process_namespace {
            spec.remove("shareProcessNamespace");
        }
        Ok(status)
    }

    /// Something was injected, and none of its containers is gone.
    pub(super) fn is_complete(&self) -> bool {
        let listed = self.containers.len() + self.init_containers.len();
        listed > 0 && self.taken.len() == listed
    }

    /// The Pod that it was taken out of, as it was, but with what arms it last again where it has to be.
    pub(super) fn in_order(&self, template: &Value) -> Value {
        let mut ordered = template.clone();
        let inits = ordered.pointer_mut("/spec/initContainers").and_then(Value::as_array_mut);
        let is_classic = self.init_containers.iter().eq([INIT]);
        if let Some(inits) = inits.filter(|_| is_classic)
            && let Some(at) = inits.iter().position(|one| name(one) == Some(INIT))
        {
            let init = inits.remove(at);
            inits.push(init);
        }
        ordered
    }

    /// The container, with what others have added to it since it was put in first.
    pub(super) fn carried_over(&self, mut container: Value) -> Value {
        let Some(old) = self.taken.iter().find(|old| name(old) == name(&container)) else {
            return container;
        };
        for field in OF_OTHERS {
            let Some(new) = container.get_mut(field).and_then(Value::as_array_mut) else { continue };
            let key = if field == "env" { "name" } else { "mountPath" };
            for item in old.get(field).and_then(Value::as_array).into_iter().flatten() {
                let ours = field == "volumeMounts"
                    && name(item).is_some_and(|volume| self.volumes.iter().any(|ours| ours == volume));
                if !ours && !new.iter().any(|there| there.get(key) == item.get(key)) {
                    new.push(item.clone());
                }
            }
        }
        container
    }

    pub(super) fn to_json(&self) -> String {
        // A struct of texts cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Takes the items of these names out of a list, which goes if nothing else was in it.
fn remove(spec: &mut Map<String, Value>, field: &str, names: &[String]) -> Result<Vec<Value>, Refusal> {
    if spec.get(field).is_none_or(Value::is_null) || names.is_empty() {
        return Ok(Vec::new());
    }
    let list = list_in(spec, field)?;
    let listed = |item: &Value| name(item).is_some_and(|name| names.iter().any(|listed| listed == name));
    let taken = list.iter().filter(|item| listed(item)).cloned().collect();
    list.retain(|item| !listed(item));
    if list.is_empty() {
        spec.remove(field);
    }
    Ok(taken)
}
