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
    manifests: String,
    _one: MutexGuard<'static, ()>,
}

impl Installed {
    /// Installs for the mode `init` or `agent`, and waits until everything is ready.
    #[track_caller]
    pub(crate) fn new(mode: &str) -> Self {
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
        on_node(&["kubectl", "apply", "-f", "-"], &manifests);
        let installed = Self { manifests, _one: one };
        let webhook = ["rollout", "status", "deployment/sidecar-webhook", "--timeout=120s"];
        on_node(&[&["kubectl", "--namespace", "sidecar-system"], &webhook[..]].concat(), "");
        if mode == "agent" {
            Self::wait_for_agent();
        }
        installed
    }

    /// Waits until the agent is ready.
    #[track_caller]
    pub(crate) fn wait_for_agent() {
        let status = ["rollout", "status", "daemonset/sidecar-agent", "--timeout=120s"];
        on_node(&[&["kubectl", "--namespace", "sidecar-system"], &status[..]].concat(), "");
    }

    /// Kills the agent's process.
    #[track_caller]
    pub(crate) fn kill_agent() {
        let agents = on_node(&["pgrep", "-f", "/usr/local/bin/sidecar agent"], "");
        for pid in agents.lines() {
            on_node(&["kill", "-KILL", pid], "");
        }
    }

    /// Has the agent's Pod made anew, as an upgrade does.
    #[track_caller]
    pub(crate) fn restart_agent() {
        let restart = ["rollout", "restart", "daemonset/sidecar-agent"];
        on_node(&[&["kubectl", "--namespace", "sidecar-system"], &restart[..]].concat(), "");
        Self::wait_for_agent();
    }
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
