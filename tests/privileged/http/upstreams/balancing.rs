//! `loadBalancer`

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sidecar_tests::{DEADLINE, Mode, PEER4, Program, eventually, in_modes, python};

use super::super::documents::{backend_at, route, to, traffic};
use super::super::scene::{BACKENDS, Scene, get};
use super::super::{Way, case};
use super::started;

fn round_robin(mode: Mode) {
    let policy = json!({"loadBalancer": {"type": "RoundRobin"}});
    let scene = started(Way::Outbound, mode, &BACKENDS, policy);
    let shares = scene.shares(&vec![get("/", &[]); 30]);
    assert_eq!(shares, BACKENDS.map(|port| (port, 10)).into());
}
in_modes!(round_robin: Ebpf);

fn round_robin_by_weight(mode: Mode) {
    let way = Way::Listener;
    let endpoint = |port: u16, weight: u32| json!({"address": crate::at(PEER4, port), "weight": weight});
    let [first, second, third] = BACKENDS;
    let endpoints = json!([endpoint(first, 3), endpoint(second, 1), endpoint(third, 0)]);
    let documents = [
        backend_at("app", "http1", endpoints),
        route("HTTPRoute", "all", way.parent(), json!([{"backendRefs": [to("app")]}])),
        traffic("app", to("app"), json!({"loadBalancer": {"type": "RoundRobin"}})),
    ];
    let shares = Scene::start(way, mode, documents).shares(&vec![get("/", &[]); 40]);
    assert_eq!(shares, BTreeMap::from([(first, 30), (second, 10)]));
}
in_modes!(round_robin_by_weight: Ebpf);

/// Who has a request to answer gets no other while one that has none is there.
fn least_request(mode: Mode) {
    let [first, second, _] = BACKENDS;
    let scene =
        started(Way::Outbound, mode, &[first, second], json!({"loadBalancer": {"type": "LeastRequest"}}));
    let cases = format!("[{}]", case("held", &[Some(&get("/hold", &[])), None], Some(0)));
    let mut held =
        Program::start(python(&scene.from(), "http_client.py").args(scene.client_args("cases", &[&cases])));
    let busy = eventually(DEADLINE, "a server to be busy", || {
        [first, second].into_iter().find(|port| !scene.seen(*port).is_empty())
    });
    let idle = if busy == first { second } else { first };
    assert_eq!(scene.shares(&vec![get("/", &[]); 20]), BTreeMap::from([(idle, 20)]));
    scene.tell(busy, "release=1");
    held.wait().success();
    let shares = scene.shares(&vec![get("/", &[]); 40]);
    assert_eq!(shares.len(), 2, "{shares:?}");
}
in_modes!(least_request: Ebpf);

/// The same key comes to the same server, by whichever connection; other keys to others.
#[track_caller]
fn sticks(mode: Mode, by: serde_json::Value, field: &str, value: impl Fn(u32) -> String) {
    let mut balancer = by;
    balancer["type"] = "ConsistentHash".into();
    let scene = started(Way::Outbound, mode, &BACKENDS, json!({"loadBalancer": balancer}));
    let texts: Vec<String> = (0..30).map(|key| get("/", &[(field, &value(key))])).collect();
    let served = || scene.all(&texts).iter().map(super::super::scene::Reply::port).collect::<Vec<_>>();
    let before = served();
    assert_eq!(before, served());
    assert_eq!(BTreeSet::from_iter(before), BACKENDS.into());
    // Without a key, any server will do.
    assert!(scene.shares(&vec![get("/", &[]); 40]).len() > 1);
}

fn by_header(mode: Mode) {
    sticks(mode, json!({"header": "x-user"}), "x-user", |key| format!("user-{key}"));
}
in_modes!(by_header: Ebpf);

fn by_cookie(mode: Mode) {
    sticks(mode, json!({"cookie": "session"}), "cookie", |key| format!("theme=dark; session={key}; x=y"));
}
in_modes!(by_cookie: Ebpf);

/// One client, one server.
fn by_source(mode: Mode) {
    let policy = json!({"loadBalancer": {"type": "ConsistentHash", "source": "address"}});
    let scene = started(Way::Inbound, mode, &BACKENDS, policy);
    let texts = vec![get("/", &[]); 20];
    let shares = scene.shares(&texts);
    assert!(shares.len() == 1 && shares == scene.shares(&texts), "{shares:?}");
}
in_modes!(by_source: Ebpf);
