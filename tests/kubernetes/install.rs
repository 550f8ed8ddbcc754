//! The whole installation, as `kubectl apply -k deploy/kubernetes/overlays/MODE` makes it.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidecar_tests::{Finished, eventually, require};

use crate::cluster::{IMAGE, PATIENCE, on_node, try_on_node};

/// There is one installation at a time: the objects of a cluster have one name.
static ONE: Mutex<()> = Mutex::new(());

/// The installation; it is removed when this is dropped.
pub(crate) struct Installed {
    /// Of the version under test.
    manifests: String,
    _one: MutexGuard<'static, ()>,
}

impl Installed {
    /// Installs for the mode `init` or `agent`, and waits until everything is ready.
    #[track_caller]
    pub(crate) fn new(mode: &str) -> Self {
        Self::of_image(IMAGE, mode)
    }

    /// The same, of the image that `SIDECAR_UPGRADE_FROM` names, if it does.
    #[track_caller]
    pub(crate) fn before_an_upgrade(mode: &str) -> Self {
        Self::of_image(&std::env::var("SIDECAR_UPGRADE_FROM").unwrap_or_else(|_| IMAGE.to_owned()), mode)
    }

    #[track_caller]
    fn of_image(image: &str, mode: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let kubectl = require::tool("kubectl", "kubectl").unwrap();
        let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/overlays").join(mode);
        let rendered = Finished::of(Command::new(kubectl).arg("kustomize").arg(overlay)).success();
        // The cluster under test may be older than the manifests: PodDisruptionBudget is v1 since 1.21.
        let versions = on_node(&["kubectl", "api-versions"], "");
        let policy = if versions.lines().any(|version| version == "policy/v1") {
            "policy/v1"
        } else {
            "policy/v1beta1"
        };
        let version = concat!("sidecar:", env!("CARGO_PKG_VERSION"));
        let manifests = rendered.replace(version, IMAGE).replace("policy/v1\n", &format!("{policy}\n"));
        on_node(&["kubectl", "apply", "-f", "-"], &manifests.replace(IMAGE, image));
        let installed = Self { manifests, _one: one };
        Self::wait_for("deployment/sidecar-webhook");
        if mode == "agent" {
            Self::wait_for_agent();
        }
        installed
    }

    /// Waits until the agent is ready.
    #[track_caller]
    pub(crate) fn wait_for_agent() {
        Self::wait_for("daemonset/sidecar-agent");
    }

    fn wait_for(what: &str) {
        kubectl(&["rollout", "status", what, "--timeout=120s"]);
    }

    /// Kills the agent's process.
    #[track_caller]
    pub(crate) fn kill_agent() {
        let agents = on_node(&["pgrep", "-f", "/usr/local/bin/sidecar agent"], "");
        for pid in agents.lines() {
            on_node(&["kill", "-KILL", pid], "");
        }
    }

    /// Upgrades to the image under test; where it runs already, its Pods are made anew.
    #[track_caller]
    pub(crate) fn upgrade(&self) {
        on_node(&["kubectl", "apply", "-f", "-"], &self.manifests);
        if std::env::var_os("SIDECAR_UPGRADE_FROM").is_none() {
            kubectl(&["rollout", "restart", "deployment/sidecar-webhook", "daemonset/sidecar-agent"]);
        }
        Self::wait_for("deployment/sidecar-webhook");
        Self::wait_for_agent();
    }
}

#[track_caller]
fn kubectl(arguments: &[&str]) {
    on_node(&[&["kubectl", "--namespace", "sidecar-system"], arguments].concat(), "");
}

impl Drop for Installed {
    fn drop(&mut self) {
        let arguments = ["kubectl", "delete", "--ignore-not-found", "--timeout=120s", "-f", "-"];
        if let Err(error) = try_on_node(&arguments, &self.manifests) {
            eprintln!("{error}");
        }
    }
}

/// Waits until the webhook's certificate is known to the API server: until then, Pods that it is asked about are refused.
#[track_caller]
pub(crate) fn wait_for_webhook() {
    eventually(PATIENCE, "the webhook's caBundle", || {
        let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
        let get = ["kubectl", "get", "mutatingwebhookconfiguration", "sidecar-webhook", "-o", path];
        (on_node(&get, "").split_whitespace().count() == 2).then_some(())
    });
}
