//! `connectionPool`: what is more than that is refused at once.

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Mode, Program, eventually, in_modes, python};

use super::super::scene::{BACKENDS, Scene, get};
use super::super::{Way, case};
use super::started;

/// A client whose request the server holds.
#[track_caller]
fn held(scene: &Scene, port: u16) -> Program {
    let cases = format!("[{}]", case("held", &[Some(&get("/hold", &[])), None], Some(0)));
    let held =
        Program::start(python(&scene.from(), "http_client.py").args(scene.client_args("cases", &[&cases])));
    eventually(DEADLINE, "the request to come", || (!scene.seen(port).is_empty()).then_some(()));
    held
}

#[track_caller]
fn overflows(way: Way, mode: Mode, pool: Value) {
    let port = BACKENDS[0];
    let scene = started(way, mode, &[port], json!({"connectionPool": pool}));
    let mut first = held(&scene, port);
    scene.get("/too-much").is_own(503, "overflow");
    let line = scene.logged("/too-much");
    assert_eq!((&line["flags"], &line["reason"]), (&"UO".into(), &"overflow".into()), "{line}");
    let flags = "backend=\"app\",method=\"GET\",code=\"503\",flags=\"UO\"";
    assert_eq!(scene.metric_sum("sidecar_requests_total", |labels| labels.contains(flags)), 1);
    scene.tell(port, "release=1");
    let seen: Value = serde_json::from_str(&first.wait().success()).unwrap();
    assert_eq!(seen["answers"][0]["status"], 200, "{seen:#}");
    // There is room again.
    eventually(DEADLINE, "a good answer", || (scene.get("/after").status() == 200).then_some(()));
}

#[track_caller]
fn requests(way: Way, mode: Mode) {
    overflows(way, mode, json!({"maxRequests": 1}));
}
by_every_way!(requests: Ebpf, Iptables);

fn connections(mode: Mode) {
    overflows(Way::Outbound, mode, json!({"maxConnections": 1, "maxPendingRequests": 0}));
}
in_modes!(connections: Ebpf);
