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

/// A `ProxyConfig` document. Ports are left to the sidecar, so that tests do not meet.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    document: Value,
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
        Self { document }
    }

    /// The same with one more field of `spec`, by its path: `interception.outbound.captureLoopback`.
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        let spec = &mut self.document["spec"];
        *path.split('.').fold(spec, |object, field| &mut object[field]) = value.into();
        self
    }

    /// The file's text. JSON is YAML (YAML 1.2.2, section 1.3).
    pub fn text(&self) -> String {
        format!("{:#}\n", self.document)
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
}
