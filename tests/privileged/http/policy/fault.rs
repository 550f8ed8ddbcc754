//! `fault`

use crate::http::by_every_way;
use serde_json::json;
use sidecar_tests::{Mode, in_modes};

use super::super::Way;
use super::super::documents::traffic;
use super::super::scene::{BACKENDS, get};
use super::started;

#[track_caller]
fn by_header(way: Way, mode: Mode) {
    let header = |value: &str| json!([{"name": "x-chaos", "value": value}]);
    let policy = json!({"fault": {
        "delay": {"fixedDelay": "300ms", "headers": header("slow")},
        "abort": {"httpStatus": 418, "headers": header("bad")},
    }});
    let scene = started(way, mode, [traffic("chaos", way.target(), policy)]);
    scene.get("/").is_of(BACKENDS[0], 200);
    scene.get_with("/", &[("x-chaos", "other")]).is_of(BACKENDS[0], 200);
    scene.get_with("/slow", &[("x-chaos", "slow")]).is_of(BACKENDS[0], 200);
    let line = scene.logged("/slow");
    assert!(line["durationMs"].as_f64().unwrap() >= 300.0, "{line}");
    scene.get_with("/bad", &[("x-chaos", "bad")]).is_own(418, "fault-injected");
    assert_eq!(scene.logged("/bad")["flags"], "FI");
    assert_eq!(scene.seen(BACKENDS[0]).len(), 3);
    // Both: it is answered so, and late.
    scene.get_with("/both", &[("x-chaos", "slow"), ("x-chaos", "bad")]).is_own(418, "fault-injected");
    let line = scene.logged("/both");
    assert!(line["durationMs"].as_f64().unwrap() >= 300.0, "{line}");
}
by_every_way!(by_header: Ebpf, Iptables);

/// 25% of 400 are 100, with a standard deviation of 9; the bounds are five of these away.
fn by_share(mode: Mode) {
    let way = Way::Outbound;
    let policy = json!({"fault": {"abort": {"httpStatus": 503, "percent": 25}}});
    let scene = started(way, mode, [traffic("chaos", way.target(), policy)]);
    let replies = scene.all(&vec![get("/", &[]); 400]);
    let bad: Vec<_> = replies.iter().filter(|reply| reply.status() != 200).collect();
    for reply in &bad {
        reply.is_own(503, "fault-injected");
    }
    assert!((55..=145).contains(&bad.len()), "{} of 400", bad.len());
    let flags = "code=\"503\",flags=\"FI\"";
    assert_eq!(scene.metric_sum("sidecar_requests_total", |labels| labels.contains(flags)), bad.len() as u64);
}
in_modes!(by_share: Ebpf);
