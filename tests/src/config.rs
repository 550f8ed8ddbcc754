//! Configuration files for the sidecar.

use serde_json::{Value, json};

/// How traffic reaches the proxy: `spec.interception.mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Programs on cgroup and network namespace.
    Ebpf,
    /// Rules in the network namespace.
    Iptables,
}

impl Mode {
    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Iptables => "iptables",
        }
    }
}

/// A `ProxyConfig` document, and others beside it. Ports are left to the sidecar, so that tests do not meet.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    document: Value,
    others: Vec<Value>,
}

impl Config {
    /// A configuration of this mode that otherwise says nothing.
    pub fn new(mode: Mode) -> Self {
        let document = json!({
            "apiVersion": "sidecar.dev/v1alpha1",
            "kind": "ProxyConfig",
            "metadata": {"name": "test"},
            "spec": {"interception": {"mode": mode.name()}},
        });
        Self { document, others: Vec::new() }
    }

    /// The same with one more field of `spec`, by its path: `interception.outbound.captureLoopback`.
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        let spec = &mut self.document["spec"];
        *path.split('.').fold(spec, |object, field| &mut object[field]) = value.into();
        self
    }

    /// The same with this bypass of the TCP stack: `off`, `to-proxy`, `full`, `auto`.
    pub fn bypass(self, bypass: &str) -> Self {
        self.with("interception.bypass", bypass)
    }

    /// The same with a `Backend` of this name, whose endpoints are JSON objects.
    pub fn with_backend(self, name: &str, endpoints: impl Into<Value>) -> Self {
        self.with_object("Backend", name, json!({"endpoints": endpoints.into()}))
    }

    /// The same with another of our own objects.
    pub fn with_object(self, kind: &str, name: &str, spec: impl Into<Value>) -> Self {
        self.with_documents([json!({
            "apiVersion": "sidecar.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec.into(),
        })])
    }

    /// The same with these documents beside it.
    pub fn with_documents(mut self, documents: impl IntoIterator<Item = Value>) -> Self {
        self.others.extend(documents);
        self
    }

    /// The same where a `Backend` above has these endpoints.
    pub fn with_endpoints(mut self, backend: &str, endpoints: impl Into<Value>) -> Self {
        let endpoints = endpoints.into();
        for document in self.others.iter_mut().filter(|document| document["metadata"]["name"] == backend) {
            document["spec"]["endpoints"] = endpoints.clone();
        }
        self
    }

    /// The same where a `Backend` above speaks this.
    pub fn with_protocol(mut self, backend: &str, protocol: &str) -> Self {
        for document in self.others.iter_mut().filter(|document| document["metadata"]["name"] == backend) {
            document["spec"]["protocol"] = protocol.into();
        }
        self
    }

    /// The same with this document beside it.
    pub fn with_document(mut self, document: Value) -> Self {
        self.others.push(document);
        self
    }

    /// The same with a `TrafficPolicy` of this name for the `Backend` of that name.
    pub fn with_policy(self, name: &str, backend: &str, mut spec: Value) -> Self {
        spec["targetRefs"] = json!([{"group": "sidecar.dev", "kind": "Backend", "name": backend}]);
        self.with_document(json!({
            "apiVersion": "sidecar.dev/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": {"name": name},
            "spec": spec,
        }))
    }

    /// The file's text. JSON is YAML (YAML 1.2.2, section 1.3).
    pub fn text(&self) -> String {
        let others = self.others.iter().map(|document| format!("---\n{document:#}\n"));
        format!("{:#}\n{}", self.document, others.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_set_by_path() {
        let config = Config::new(Mode::Iptables)
            .with("interception.outbound.excludePorts", [9001])
            .with("timeouts.connect", "1s");
        let document: Value = serde_json::from_str(&config.text()).unwrap();
        let expected = json!({"mode": "iptables", "outbound": {"excludePorts": [9001]}});
        assert_eq!(document["spec"]["interception"], expected);
        assert_eq!(document["spec"]["timeouts"]["connect"], "1s");
    }

    #[test]
    fn backends_are_documents_of_their_own() {
        let text = Config::new(Mode::Ebpf).with_backend("app", json!([{"address": "10.7.0.2:1"}])).text();
        let (_, backend) = text.split_once("\n---\n").unwrap();
        let backend: Value = serde_json::from_str(backend).unwrap();
        assert_eq!((&backend["kind"], &backend["metadata"]["name"]), (&json!("Backend"), &json!("app")));
    }
}
