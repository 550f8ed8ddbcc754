//! What the agent keeps of a Pod: a few words, whatever the Pod is like.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use serde::Deserialize;

use super::status::{ANNOTATION, Report};
use crate::config::OnProxyDown;
use crate::host::pod_cgroup::PodUid;
use crate::kubernetes::annotations::{self, Annotations, Overrides, STATUS};

/// The proxy's container, also where it is an init container.
pub const PROXY: &str = "sidecar-proxy";
/// The init container of Pods that arm themselves.
const INIT: &str = "sidecar-init";

/// A Pod, as the API last had it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Which of all that had or will have the name.
    pub uid: PodUid,
    /// It has a proxy, and leaves it to the agent to arm it.
    pub ours: bool,
    /// All of its containers have ended, for good.
    pub over: bool,
    /// It is to end.
    pub ending: bool,
    /// What its label or annotation says, or why that cannot be understood.
    pub asks: Result<Option<bool>, Box<str>>,
    /// What its annotations set, or why they cannot be understood.
    pub overrides: Result<Box<Overrides>, Box<str>>,
    /// The proxy's container that runs now.
    pub proxy: Option<Running>,
    /// What its annotation says of its arming.
    pub reported: Option<Report>,
}

/// A run of a container: another one after it has started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running(u64);

/// What of [`STATUS`] matters here.
#[derive(Deserialize)]
struct Injected {
    mode: Option<String>,
}

impl Facts {
    /// `None`: not a Pod that could be served.
    pub fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let empty = Annotations::new();
        let annotations = metadata.annotations.as_ref().unwrap_or(&empty);
        let labels = metadata.labels.as_ref().unwrap_or(&empty);
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let words = |error: annotations::AnnotationError| error.to_string().into_boxed_str();
        Some(Self {
            namespace: metadata.namespace.as_deref()?.into(),
            name: metadata.name.as_deref()?.into(),
            uid: metadata.uid.clone()?.try_into().ok()?,
            ours: is_ours(pod, annotations),
            over: matches!(phase, "Succeeded" | "Failed"),
            ending: metadata.deletion_timestamp.is_some(),
            asks: annotations::asks_for_sidecar(labels, annotations).map_err(words),
            overrides: Overrides::from_annotations(annotations).map(Box::new).map_err(words),
            proxy: running(pod),
            reported: annotations.get(ANNOTATION).and_then(|text| serde_json::from_str(text).ok()),
        })
    }

    /// It is to be armed, where its namespace says so or not.
    pub fn is_enrolled(&self, namespace: bool) -> bool {
        self.ours && self.asks.as_ref().is_ok_and(|asks| asks.unwrap_or(namespace))
    }

    /// It is armed before its proxy listens: nothing may pass without.
    pub fn is_early(&self) -> bool {
        self.overrides.as_ref().is_ok_and(|overrides| overrides.on_proxy_down == Some(OnProxyDown::Closed))
    }
}

fn is_ours(pod: &Pod, annotations: &Annotations) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let init = spec.init_containers.iter().flatten();
    let has = |name: &str| {
        let named = |container: &Container| container.name == name;
        spec.containers.iter().any(named) || init.clone().any(named)
    };
    let injected = annotations.get(STATUS).and_then(|text| serde_json::from_str::<Injected>(text).ok());
    let by_agent = match injected.and_then(|injected| injected.mode) {
        Some(mode) => mode == "agent",
        None => !has(INIT),
    };
    has(PROXY) && by_agent && spec.host_network != Some(true)
}

fn running(pod: &Pod) -> Option<Running> {
    let status = pod.status.as_ref()?;
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let is_up = |status: &&ContainerStatus| {
        status.name == PROXY && status.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    let mut hasher = DefaultHasher::new();
    let proxy = statuses.into_iter().find(is_up)?;
    (&proxy.container_id, proxy.restart_count).hash(&mut hasher);
    Some(Running(hasher.finish()))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A Pod of the agent's in namespace `shop`.
    pub(in crate::agent) fn pod(more: &Value) -> Facts {
        let mut pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "annotations": {}},
            "spec": {"containers": [{"name": "app"}, {"name": "sidecar-proxy"}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "sidecar-proxy", "containerID": "c1", "restartCount": 0, "ready": false, "image": "i",
                "imageID": "i", "state": {"running": {}}}]},
        });
        merge(&mut pod, more);
        Facts::of(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn merge(into: &mut Value, from: &Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from.clone(),
        }
    }

    fn annotated(name: &str, value: &str) -> Facts {
        pod(&json!({"metadata": {"annotations": {name: value}}}))
    }

    #[test]
    fn a_pod_is_the_agents_by_its_containers_and_its_mode() {
        assert!(pod(&json!({})).ours);
        let native =
            json!({"spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "sidecar-proxy"}]}});
        assert!(pod(&native).ours);
        assert!(!pod(&json!({"spec": {"containers": [{"name": "app"}]}})).ours);
        assert!(!pod(&json!({"spec": {"hostNetwork": true}})).ours);
        let init = json!({"spec": {"initContainers": [{"name": "sidecar-init"}]}});
        assert!(!pod(&init).ours);
        assert!(!annotated(STATUS, r#"{"mode":"init","version":"1"}"#).ours);
        assert!(annotated(STATUS, r#"{"mode":"agent","containers":["sidecar-proxy"]}"#).ours);
    }

    #[test]
    fn the_pod_wins_over_its_namespace() {
        for (says, [without, with]) in
            [(None, [false, true]), (Some("true"), [true; 2]), (Some("false"), [false; 2])]
        {
            let facts = says.map_or_else(|| pod(&json!({})), |says| annotated("sidecar.dev/inject", says));
            assert_eq!(
                [false, true].map(|namespace| facts.is_enrolled(namespace)),
                [without, with],
                "{says:?}"
            );
        }
        let wrong = annotated("sidecar.dev/inject", "maybe");
        assert!(!wrong.is_enrolled(true) && wrong.asks.unwrap_err().contains("sidecar.dev/inject"));
    }

    #[test]
    fn another_run_of_the_proxy_is_another() {
        let first = pod(&json!({})).proxy.unwrap();
        let status = |id: &str, state: Value| {
            let status = json!([{"name": "sidecar-proxy", "containerID": id, "restartCount": 0, "ready": true,
                "image": "i", "imageID": "i", "state": state}]);
            pod(&json!({"status": {"containerStatuses": status}})).proxy
        };
        assert_eq!(status("c1", json!({"running": {}})), Some(first));
        assert_ne!(status("c2", json!({"running": {}})), Some(first));
        assert_eq!(status("c1", json!({"waiting": {}})), None);
    }

    #[test]
    fn what_is_over_what_ends_and_what_was_reported() {
        let facts = pod(
            &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Failed"}}),
        );
        assert!(facts.over && facts.ending);
        let said = r#"{"armed":true,"since":"2026-01-01T00:00:00Z","reason":"Armed","version":"1"}"#;
        let report = annotated(ANNOTATION, said).reported.unwrap();
        assert!(report.armed && report.reason == "Armed");
        assert_eq!(annotated(ANNOTATION, "?").reported, None);
        assert!(annotated("sidecar.dev/on-proxy-down", "closed").is_early());
        assert!(annotated("sidecar.dev/on-proxy-down", "?").overrides.is_err());
    }
}
