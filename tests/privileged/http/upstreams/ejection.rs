//! `outlierDetection`

use crate::http::by_every_way;
use std::collections::BTreeMap;

use serde_json::json;
use sidecar_tests::{DEADLINE, Mode, eventually, in_modes};

use super::super::Way;
use super::super::scene::{BACKENDS, get};
use super::started;

const EJECTED: &str = "sidecar_ejected_endpoints{backend=\"app\"}";

/// A server that answers 5xx is left out, and comes back.
#[track_caller]
fn leaves_out(way: Way, mode: Mode) {
    let [first, second, _] = BACKENDS;
    let policy = json!({
        "loadBalancer": {"type": "RoundRobin"},
        "outlierDetection": {
            "consecutive5xxErrors": 3, "interval": "200ms", "baseEjectionTime": "8s", "maxEjectionPercent": 50,
        },
    });
    let scene = started(way, mode, &[first, second], policy);
    scene.tell(first, "status=500");
    let replies = scene.all(&vec![get("/bad", &[]); 6]);
    assert_eq!(replies.iter().filter(|reply| reply.status() == 500).count(), 3);
    assert_eq!(scene.metric(EJECTED), 1);
    assert_eq!(scene.shares(&vec![get("/without", &[]); 10]), BTreeMap::from([(second, 10)]));
    assert!(scene.seen(first).iter().all(|request| request["target"] == "/bad"));
    // Half of them at most: the other one stays, whatever it answers.
    scene.tell(second, "status=500");
    let replies = scene.all(&vec![get("/stays", &[]); 4]);
    for reply in &replies {
        reply.is_of(second, 500);
    }

    scene.tell(first, "status=0");
    scene.tell(second, "status=0");
    eventually(DEADLINE, "the first to be back", || {
        scene.shares(&[get("/", &[]), get("/", &[])]).get(&first).copied()
    });
    scene.counted(EJECTED, 0);
}
by_every_way!(leaves_out: Ebpf, Iptables);

/// So is one that cannot be reached.
fn unreachable(mode: Mode) {
    let policy = json!({
        "loadBalancer": {"type": "RoundRobin"},
        "outlierDetection": {"consecutive5xxErrors": 2, "interval": "1s", "baseEjectionTime": "1h"},
    });
    // Nobody listens on the last port.
    let scene = started(Way::Outbound, mode, &[BACKENDS[0], BACKENDS[1], 9], policy);
    let replies = scene.all(&vec![get("/early", &[]); 6]);
    let failed = replies.iter().filter(|reply| reply.status() != 200);
    assert_eq!(failed.map(|reply| reply.is_own(503, "upstream-connect-refused")).count(), 2);
    assert_eq!(scene.metric(EJECTED), 1);
    scene.all(&vec![get("/late", &[]); 10]).iter().for_each(|reply| assert_eq!(reply.status(), 200));
    let flags = "code=\"503\",flags=\"UF\"";
    assert_eq!(scene.metric_sum("sidecar_requests_total", |labels| labels.contains(flags)), 2);
}
in_modes!(unreachable: Ebpf);
