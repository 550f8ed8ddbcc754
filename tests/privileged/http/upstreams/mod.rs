//! Which endpoint of a backend is used, how much, and what is done when it fails.

mod balancing;
mod circuit;
mod ejection;
mod health;
mod kept;
mod leaving;
mod retries;

use serde_json::{Value, json};
use sidecar_tests::Mode;

use super::Way;
use super::documents::{backend, route, to, traffic};
use super::scene::Scene;

/// All requests go to these servers by this policy.
#[track_caller]
fn started(way: Way, mode: Mode, ports: &[u16], policy: Value) -> Scene {
    let rules = json!([{"backendRefs": [to("app")]}]);
    let documents = [
        backend("app", ports),
        route("HTTPRoute", "all", way.parent(), rules),
        traffic("app", to("app"), policy),
    ];
    Scene::start(way, mode, documents)
}
