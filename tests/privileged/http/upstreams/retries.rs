//! `retry`, `retryBudget` and `maxRetries`: a backend that fails is not made to fail more.

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{Mode, in_modes};

use super::super::Way;
use super::super::scene::{BACKENDS, Scene, get};
use super::started;

const REQUESTS: usize = 50;

/// How many retries so many requests have that all fail, and how many lines of the log have the flag for that.
#[track_caller]
fn tried_again(scene: &Scene) -> (u64, u64) {
    scene.tell(BACKENDS[0], "status=503");
    let replies = scene.all(&vec![get("/", &[]); REQUESTS]);
    for reply in &replies {
        reply.is_of(BACKENDS[0], 503);
    }
    let retries = scene.metric("sidecar_retries_total");
    assert_eq!(scene.seen(BACKENDS[0]).len() as u64, REQUESTS as u64 + retries);
    let flags = "code=\"503\",flags=\"URX\"";
    (retries, scene.metric_sum("sidecar_requests_total", |labels| labels.contains(flags)))
}

fn policy(more: &[(&str, Value)]) -> Value {
    let backoff = json!({"baseInterval": "1ms", "maxInterval": "1ms"});
    let mut policy = json!({"retry": {"attempts": 1, "codes": [503], "backoff": backoff}});
    for (name, value) in more {
        policy[name] = value.clone();
    }
    policy
}

fn without_a_budget(mode: Mode) {
    let scene = started(Way::Outbound, mode, &BACKENDS[..1], policy(&[]));
    assert_eq!(tried_again(&scene).0, REQUESTS as u64);
}
in_modes!(without_a_budget: Ebpf);

/// A fifth of the requests.
#[track_caller]
fn budget(way: Way, mode: Mode) {
    let budget = json!({"percent": 20, "minRetriesPerSecond": 0});
    let scene = started(way, mode, &BACKENDS[..1], policy(&[("retryBudget", budget)]));
    // What is older than ten seconds is forgotten: where the machine is slow, there are fewer.
    let (retries, flagged) = tried_again(&scene);
    assert!((1..=10).contains(&retries), "{retries}");
    assert_eq!(flagged, REQUESTS as u64 - retries);
}
by_every_way!(budget: Ebpf, Iptables);

fn at_a_time(mode: Mode) {
    let pool = json!({"maxRetries": 0});
    let scene = started(Way::Outbound, mode, &BACKENDS[..1], policy(&[("connectionPool", pool)]));
    assert_eq!(tried_again(&scene), (0, REQUESTS as u64));
}
in_modes!(at_a_time: Ebpf);
