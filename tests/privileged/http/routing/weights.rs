//! Which share of the requests each backend gets.

use crate::http::by_every_way;
use serde_json::json;
use sidecar_tests::Mode;

use super::super::Way;
use super::super::documents::{backend, route, weighed};
use super::super::scene::{BACKENDS, Scene, get};

const REQUESTS: usize = 400;

/// 10% of 400 requests are 40, with a standard deviation of 6; half of them are 200, with one of 10. The bounds are
/// five of these away.
#[track_caller]
fn canary(way: Way, mode: Mode) {
    let [stable, canary, never] = BACKENDS;
    let rule = |path: &str, references: serde_json::Value| json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": references});
    let rules = json!([
        rule("/canary", json!([weighed("stable", 90), weighed("canary", 10), weighed("never", 0)])),
        rule("/broken", json!([weighed("stable", 1), weighed("missing", 1)])),
        rule("/nobody", json!([weighed("never", 0)])),
    ]);
    let scene = Scene::start(
        way,
        mode,
        [
            backend("stable", &[stable]),
            backend("canary", &[canary]),
            backend("never", &[never]),
            route("HTTPRoute", "all", way.parent(), rules),
        ],
    );
    let shares = scene.shares(&vec![get("/canary", &[]); REQUESTS]);
    let (most, some) = (shares[&stable], shares[&canary]);
    assert!((10..=70).contains(&some) && most + some == REQUESTS, "{shares:?}");

    // A backend that is not there has its share, which fails.
    let replies = scene.all(&vec![get("/broken", &[]); REQUESTS]);
    let (good, bad): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status() == 200);
    for reply in &good {
        reply.is_of(stable, 200);
    }
    for reply in &bad {
        reply.is_own(500, "invalid-backend");
    }
    assert!((150..=250).contains(&bad.len()), "{} of {REQUESTS} failed", bad.len());
    scene.get("/nobody").is_own(500, "no-backend");
    let invalid =
        scene.metric_sum("sidecar_requests_total", |labels| labels.contains("code=\"500\",flags=\"NC\""));
    assert_eq!(invalid, bad.len() as u64);
}
by_every_way!(canary: Ebpf, Iptables);
