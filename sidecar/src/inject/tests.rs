mod manifests;
mod pods;

use serde_json::Value;

pub(crate) use self::pods::anything;
use super::*;

pub(crate) fn settings() -> Settings {
    Settings {
        mode: PodMode::Init,
        native: false,
        again: Again::Replace,
        image: "sidecar:test".to_owned(),
        image_pull_policy: None,
        resources: Resources {
            cpu: "10m".parse().unwrap(),
            memory: "32Mi".parse().unwrap(),
            cpu_limit: None,
            memory_limit: "256Mi".parse().unwrap(),
        },
    }
}

/// A Pod with these annotations and this spec, in YAML.
pub(super) fn pod(annotations: &str, spec: &str) -> Value {
    let text = format!("metadata:\n  annotations: {{{annotations}}}\nspec: {{{spec}}}\n");
    yaml::Node::read(&text).unwrap().unwrap().value().unwrap()
}

#[track_caller]
pub(super) fn injected(pod: &Value, settings: &Settings) -> Value {
    match inject(pod, settings) {
        Ok(Outcome::Injected(pod, _)) => pod,
        other => panic!("{other:?}"),
    }
}

pub(super) fn names(pod: &Value, list: &str) -> Vec<String> {
    let items = pod["spec"][list].as_array().into_iter().flatten();
    items.map(|item| name(item).unwrap().to_owned()).collect()
}

pub(super) fn container<'a>(pod: &'a Value, wanted: &str) -> &'a Value {
    let lists =
        ["containers", "initContainers"].map(|list| pod["spec"][list].as_array().into_iter().flatten());
    lists.into_iter().flatten().find(|one| name(one) == Some(wanted)).unwrap()
}

pub(super) const APP: &str = "containers: [{name: app, image: app}]";
