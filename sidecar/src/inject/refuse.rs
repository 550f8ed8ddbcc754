//! Pods that get no sidecar: what cannot have one is left as it is, what must not have one is refused.

use serde_json::{Map, Value};

use super::parts::Wanted;
use super::{INIT, PROXY, PROXY_UID, list_in, name};
use crate::kubernetes::annotations::{AnnotationError, Annotations, PodMode};

/// Why a Pod is refused. Displays as one line that says what to change.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// An annotation has no valid value.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// It is no Pod.
    #[error("{0} must be {1}")]
    Shape(String, &'static str),
    /// The annotation that says what was injected is broken.
    #[error(
        "sidecar.dev/status: is not what was written there; remove this annotation and all sidecar-* parts"
    )]
    Status,
    /// It would be taken for the proxy.
    #[error(
        "{0} runs as user {PROXY_UID}, whose connections are taken for the proxy's own; give it another runAsUser"
    )]
    ProxysUser(String),
    /// A name is taken.
    #[error("it has a {0} {1} of its own, and the sidecar needs that name; rename it")]
    NameTaken(&'static str, String),
    /// The proxy could not tell when the application has ended.
    #[error("{0}, so the proxy cannot see when it is alone and the Pod would never complete; {1}")]
    NeverAlone(&'static str, &'static str),
    /// The init container would be root in a user namespace only.
    #[error(
        "hostUsers: false leaves the init container no right to load programs; use sidecar.dev/mode: agent"
    )]
    UserNamespace,
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn shape(what: &str, must: &'static str) -> Self {
        Self::Shape(what.to_owned(), must)
    }

    /// It is the input that is wrong, rather than what it asks for.
    pub fn is_mistake(&self) -> bool {
        matches!(self, Self::Annotation(_) | Self::Shape(..) | Self::Status)
    }
}

/// The containers of a Pod, the init containers last.
pub(super) fn containers(spec: &mut Map<String, Value>) -> Result<Vec<Value>, Refusal> {
    let mut all = list_in(spec, "containers")?.clone();
    if spec.get("initContainers").is_some_and(|inits| !inits.is_null()) {
        all.extend_from_slice(list_in(spec, "initContainers")?);
    }
    if all.iter().any(|container| name(container).is_none()) {
        return Err(Refusal::shape("each container", "a map with a name"));
    }
    Ok(all)
}

/// Why a Pod cannot have a sidecar, if so.
pub(super) fn out_of_reach(spec: &Map<String, Value>, annotations: &Annotations) -> Option<String> {
    let is = |field: &str| spec.get(field) == Some(&Value::Bool(true));
    if is("hostNetwork") {
        return Some("with hostNetwork it has no network namespace of its own to intercept in".to_owned());
    }
    if annotations.contains_key("kubernetes.io/config.mirror") {
        return Some("it mirrors a static Pod of the kubelet, which no API changes".to_owned());
    }
    let system = spec.get("os").and_then(name_of_system).or_else(|| {
        let labels = spec.get("nodeSelector")?;
        labels.get("kubernetes.io/os")?.as_str()
    });
    (system == Some("windows")).then(|| "it is for Windows".to_owned())
}

fn name_of_system(os: &Value) -> Option<&str> {
    os.get("name").and_then(Value::as_str)
}

/// Refuses what would be exempt. What user an image names by itself cannot be seen from here.
pub(super) fn proxys_user(spec: &Map<String, Value>, containers: &[Value]) -> Result<(), Refusal> {
    let runs_as_proxy = |context: Option<&Value>| {
        let user = context.and_then(|context| context.get("runAsUser"));
        // A manifest may write it as 1337.0; the API server reads that as the same number.
        user.and_then(Value::as_f64).is_some_and(|user| (user - f64::from(PROXY_UID)).abs() < 0.5)
    };
    if runs_as_proxy(spec.get("securityContext")) {
        return Err(Refusal::ProxysUser("the Pod".to_owned()));
    }
    let others = containers.iter().filter(|one| !matches!(name(one), Some(PROXY | INIT)));
    for container in others {
        if runs_as_proxy(container.get("securityContext")) {
            let name = name(container).unwrap_or_default();
            return Err(Refusal::ProxysUser(format!("container {name}")));
        }
    }
    Ok(())
}

/// Refuses what the sidecar would collide with.
pub(super) fn what_is_in_the_way(
    spec: &mut Map<String, Value>,
    containers: &[Value],
    wanted: &Wanted,
) -> Result<(), Refusal> {
    if wanted.mode == PodMode::Init {
        if containers.iter().any(|container| name(container) == Some(INIT)) {
            return Err(Refusal::NameTaken("container", INIT.to_owned()));
        }
        if spec.get("hostUsers") == Some(&Value::Bool(false)) {
            return Err(Refusal::UserNamespace);
        }
    }
    let ours = wanted.volumes();
    let taken = list_in(spec, "volumes")?
        .iter()
        .filter_map(name)
        .find(|taken| ours.iter().any(|volume| name(volume) == Some(taken)));
    if let Some(taken) = taken {
        return Err(Refusal::NameTaken("volume", taken.to_owned()));
    }
    if wanted.until_alone {
        if spec.get("hostPID") == Some(&Value::Bool(true)) {
            return Err(Refusal::NeverAlone("it has hostPID", "use native sidecars, or no hostPID"));
        }
        if spec.get("shareProcessNamespace") == Some(&Value::Bool(false)) {
            return Err(Refusal::NeverAlone(
                "it has shareProcessNamespace: false",
                "use native sidecars, or leave that out",
            ));
        }
    }
    Ok(())
}
