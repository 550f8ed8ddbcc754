//! Documents of a configuration.

use serde_json::{Value, json};
use sidecar_tests::PEER4;

const OURS: &str = "sidecar.dev/v1alpha1";

fn document(version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A Service with this cluster IP and these ports.
pub(super) fn service(name: &str, cluster_ip: &str, ports: &[(&str, u16)]) -> Value {
    let ports: Vec<_> = ports.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
    document("v1", "Service", name, json!({"clusterIP": cluster_ip, "ports": ports}))
}

/// A Backend of HTTP/1.1 servers on these ports of the peer.
pub(super) fn backend(name: &str, ports: &[u16]) -> Value {
    backend_of(name, "http1", ports)
}

/// A Backend of servers that speak this.
pub(super) fn backend_of(name: &str, protocol: &str, ports: &[u16]) -> Value {
    let endpoints: Vec<_> = ports.iter().map(|port| json!({"address": crate::at(PEER4, *port)})).collect();
    backend_at(name, protocol, endpoints.into())
}

/// A Backend with these endpoints.
pub(super) fn backend_at(name: &str, protocol: &str, endpoints: Value) -> Value {
    document(OURS, "Backend", name, json!({"protocol": protocol, "endpoints": endpoints}))
}

/// A route of this kind, `HTTPRoute` or another, with these rules.
pub(super) fn route(kind: &str, name: &str, parent: Value, rules: Value) -> Value {
    let version = if kind.starts_with('T') { "v1alpha2" } else { "v1" };
    let version = format!("gateway.networking.k8s.io/{version}");
    document(&version, kind, name, json!({"parentRefs": [parent], "rules": rules}))
}

/// The same for these host names.
pub(super) fn route_for(hostnames: &[&str], mut route: Value) -> Value {
    route["spec"]["hostnames"] = json!(hostnames);
    route
}

/// What refers to a Backend, as a route's backend or a policy's target.
pub(super) fn to(backend: &str) -> Value {
    json!({"group": "sidecar.dev", "kind": "Backend", "name": backend})
}

/// The same with this share of the requests.
pub(super) fn weighed(backend: &str, weight: u32) -> Value {
    let mut reference = to(backend);
    reference["weight"] = weight.into();
    reference
}

/// What refers to a route, as a policy's target.
pub(super) fn of_route(kind: &str, name: &str) -> Value {
    json!({"group": "gateway.networking.k8s.io", "kind": kind, "name": name})
}

/// A TrafficPolicy, which is said of its target.
pub(super) fn traffic(name: &str, target: Value, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([target]);
    document(OURS, "TrafficPolicy", name, spec)
}

/// An AccessPolicy, likewise.
pub(super) fn access(name: &str, target: Value, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([target]);
    document(OURS, "AccessPolicy", name, spec)
}

/// A fixed answer.
pub(super) fn direct_response(name: &str, spec: Value) -> Value {
    document(OURS, "DirectResponse", name, spec)
}
