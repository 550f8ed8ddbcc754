//! What is compared.

use std::fmt::{self, Display};

use serde::Serialize;

/// A way from the client to the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// No proxy.
    Direct,
    /// sidecar behind nat rules.
    Iptables,
    /// sidecar behind its kernel half.
    Ebpf,
    /// The same, with the bypass towards the proxy.
    EbpfToProxy,
    /// The same, with the bypass both ways.
    EbpfFull,
    /// The same, also between proxies of the machine.
    EbpfSameNode,
    /// As [`Self::Ebpf`], with a route that has one backend.
    Route,
    /// The same with policies, and three backends.
    Policies,
    /// Envoy behind nat rules.
    EnvoyIptables,
    /// Envoy behind the kernel half.
    EnvoyEbpf,
}

impl Mode {
    /// Those without another project's proxy.
    pub(crate) const OWN: [Self; 5] =
        [Self::Direct, Self::Iptables, Self::Ebpf, Self::EbpfToProxy, Self::EbpfFull];
    /// Those of them that are compared as proxies that forward requests.
    pub(crate) const REQUESTS: [Self; 5] =
        [Self::Direct, Self::Ebpf, Self::EbpfFull, Self::Route, Self::Policies];
    /// Those that are compared between two Pods.
    pub(crate) const PODS: [Self; 5] =
        [Self::Direct, Self::Iptables, Self::Ebpf, Self::EbpfFull, Self::EbpfSameNode];
    /// Those with.
    pub(crate) const PEERS: [Self; 2] = [Self::EnvoyIptables, Self::EnvoyEbpf];

    /// A name for files and for namespaces.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Iptables => "iptables",
            Self::Ebpf => "ebpf",
            Self::EbpfToProxy => "ebpf-to-proxy",
            Self::EbpfFull => "ebpf-full",
            Self::EbpfSameNode => "ebpf-same-node",
            Self::Route => "ebpf-route",
            Self::Policies => "ebpf-policies",
            Self::EnvoyIptables => "envoy-iptables",
            Self::EnvoyEbpf => "envoy-ebpf",
        }
    }

    /// `spec.interception.bypass`.
    pub(crate) fn bypass(self) -> &'static str {
        match self {
            Self::EbpfToProxy => "to-proxy",
            Self::EbpfFull | Self::EbpfSameNode => "full",
            _ => "off",
        }
    }
}

impl Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Iptables => "iptables",
            Self::Ebpf => "eBPF",
            Self::EbpfToProxy => "eBPF to-proxy",
            Self::EbpfFull => "eBPF full",
            Self::EbpfSameNode => "eBPF same node",
            Self::Route => "eBPF route",
            Self::Policies => "eBPF policies",
            Self::EnvoyIptables => "Envoy iptables",
            Self::EnvoyEbpf => "Envoy eBPF",
        })
    }
}
