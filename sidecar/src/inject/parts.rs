//! The containers and volumes that are added.

use serde_json::{Value, json};

use super::{INIT, PROXY, PROXY_UID, PullPolicy, Resources};
use crate::kubernetes::annotations::PodMode;

/// What a Pod is to get.
pub(super) struct Wanted {
    pub mode: PodMode,
    pub native: bool,
    /// The proxy is to leave when the application has ended.
    pub until_alone: bool,
    /// The `ConfigMap` with the configuration.
    pub config: Option<String>,
    /// What both are to log, if not the default.
    pub log_level: Option<String>,
    /// Flags of both commands.
    pub overrides: Vec<String>,
    pub image: String,
    pub image_pull_policy: Option<PullPolicy>,
    pub resources: Resources,
}

const RUN: &str = "sidecar-run";
const CONFIG: &str = "sidecar-config";
const CGROUP: &str = "sidecar-cgroup";
const BPF: &str = "sidecar-bpf";

/// Where the configuration is mounted.
const CONFIG_DIRECTORY: &str = "/etc/sidecar";
const BPF_DIRECTORY: &str = "/sys/fs/bpf";
/// Where a container finds the node's cgroups: at their usual place it has its own.
const CGROUP_DIRECTORY: &str = "/host/sys/fs/cgroup";

impl Wanted {
    /// The container of the proxy. It needs no capability, and stays within the "restricted" level of Pod Security.
    pub(super) fn proxy(&self) -> Value {
        let mut mounts = vec![json!({"name": RUN, "mountPath": "/run/sidecar"})];
        if self.mode == PodMode::Init {
            // Its bypass is pinned there.
            mounts.push(json!({"name": BPF, "mountPath": BPF_DIRECTORY, "readOnly": true}));
        }
        let mut args = self.args("proxy");
        args.extend(self.until_alone.then(|| "--until-alone".to_owned()));
        let mut proxy = json!({
            "ports": [
                {"name": "sidecar-metrics", "containerPort": 15020, "protocol": "TCP"},
                {"name": "sidecar-health", "containerPort": 15021, "protocol": "TCP"},
            ],
            "readinessProbe": {
                "httpGet": {"path": "/healthz/ready", "port": 15021},
                "periodSeconds": 2,
                "failureThreshold": 3,
            },
            "securityContext": {
                "runAsUser": PROXY_UID,
                "runAsGroup": PROXY_UID,
                "runAsNonRoot": true,
                "readOnlyRootFilesystem": true,
                "allowPrivilegeEscalation": false,
                "privileged": false,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "resources": self.resources.of_proxy(),
        });
        if self.native {
            proxy["restartPolicy"] = json!("Always");
            // The next init container starts when the proxy serves, not merely when its process is there.
            proxy["startupProbe"] = json!({
                "httpGet": {"path": "/healthz/live", "port": 15021},
                "periodSeconds": 1,
                "failureThreshold": 60,
            });
        }
        self.container(PROXY, &args, mounts, proxy)
    }

    /// The container that arms the Pod and ends. It loads BPF programs and attaches them to a cgroup of the node, for which
    /// the kernel asks the privileges of the node's root.
    pub(super) fn init(&self) -> Value {
        let mounts = vec![
            json!({"name": RUN, "mountPath": "/run/sidecar"}),
            json!({"name": CGROUP, "mountPath": CGROUP_DIRECTORY, "readOnly": true}),
            json!({"name": BPF, "mountPath": BPF_DIRECTORY}),
        ];
        let rest = json!({
            "securityContext": {
                "privileged": true,
                "runAsUser": 0,
                "runAsGroup": 0,
                // A Pod that forbids root to its containers would forbid it to this one.
                "runAsNonRoot": false,
                "readOnlyRootFilesystem": true,
            },
            "resources": self.resources.of_init(),
        });
        self.container(INIT, &self.args("init"), mounts, rest)
    }

    /// The volumes that the containers mount.
    pub(super) fn volumes(&self) -> Vec<Value> {
        let mut volumes = vec![json!({"name": RUN, "emptyDir": {}})];
        if let Some(config) = &self.config {
            volumes.push(json!({"name": CONFIG, "configMap": {"name": config}}));
        }
        if self.mode == PodMode::Init {
            let of_host = |name, path| json!({"name": name, "hostPath": {"path": path, "type": "Directory"}});
            volumes.push(of_host(CGROUP, "/sys/fs/cgroup"));
            volumes.push(of_host(BPF, BPF_DIRECTORY));
        }
        volumes
    }

    fn args(&self, command: &str) -> Vec<String> {
        let mut args = vec![command.to_owned()];
        if self.config.is_some() {
            args.extend(["--config".to_owned(), CONFIG_DIRECTORY.to_owned()]);
        }
        args.extend(self.log_level.as_ref().map(|level| format!("--log={level}")));
        args.extend_from_slice(&self.overrides);
        args
    }

    /// What both have, and `rest`.
    fn container(&self, name: &str, args: &[String], mut mounts: Vec<Value>, rest: Value) -> Value {
        if self.config.is_some() {
            mounts.push(json!({"name": CONFIG, "mountPath": CONFIG_DIRECTORY, "readOnly": true}));
        }
        let field =
            |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let mut container = rest;
        container["name"] = json!(name);
        container["image"] = json!(self.image);
        container["args"] = json!(args);
        container["env"] = json!([
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_UID", "metadata.uid"),
            field("NODE_NAME", "spec.nodeName"),
        ]);
        container["volumeMounts"] = json!(mounts);
        // Why one failed is in `kubectl describe pod`.
        container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
        if let Some(policy) = self.image_pull_policy {
            container["imagePullPolicy"] = json!(format!("{policy:?}"));
        }
        container
    }
}
