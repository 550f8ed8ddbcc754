//! Connections that are kept for further requests.

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Mode, eventually, in_modes};

use super::super::Way;
use super::super::documents::{backend, route, to, traffic};
use super::super::scene::{BACKENDS, Scene, get, request};
use super::started;

/// How many connections the server on this port has had, and how many it has.
fn connections_of(scene: &Scene, port: u16) -> (u64, u64) {
    let told = scene.tell(port, "");
    (told["connections"].as_u64().unwrap(), told["open"].as_u64().unwrap())
}

fn connections(scene: &Scene) -> (u64, u64) {
    connections_of(scene, BACKENDS[0])
}

/// The upstream closes a kept connection just as a request is sent on it: no request that is safe fails, and one that is
/// not is not sent twice.
#[track_caller]
fn closes_just_then(way: Way, mode: Mode) {
    let port = BACKENDS[0];
    let scene = started(way, mode, &[port], json!({}));
    scene.tell(port, "closing=1");
    scene.all(&vec![get("/safe", &[]); 30]).iter().for_each(|reply| reply.is_of(port, 200));
    assert!(connections(&scene).0 >= 30, "each answered one");

    let empty = request("POST", "/unsafe", &[("Content-Length", "0")]);
    let with_body = request("POST", "/body", &[("Content-Length", "5")]) + "hello";
    for (text, path) in [(empty, "/unsafe"), (with_body, "/body")] {
        let [before, reply] = &scene.all(&[get("/before", &[]), text])[..] else { panic!("two answers") };
        before.is_of(port, 200);
        reply.is_own(503, "upstream-reset");
        let line = scene.logged(path);
        assert_eq!((&line["flags"], &line["attempts"]), (&"UC".into(), &1.into()), "{line}");
        assert_eq!(scene.seen(port).iter().filter(|request| request["target"] == path).count(), 1);
    }
    let failed = |labels: &str| !labels.contains("code=\"200\",flags=\"\"");
    assert_eq!(scene.metric_sum("sidecar_requests_total", failed), 2);
}
by_every_way!(closes_just_then: Ebpf, Iptables);

/// All requests of a client take one connection to a server; it is closed when none came for as long as the policy says.
#[track_caller]
fn reused_until_idle(way: Way, mode: Mode) {
    let [short, long, _] = BACKENDS;
    let idle =
        |name: &str, time: &str| traffic(name, to(name), json!({"connectionPool": {"idleTimeout": time}}));
    let rules = json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": "/long"}}], "backendRefs": [to("long")]},
        {"backendRefs": [to("short")]},
    ]);
    let documents = [
        backend("short", &[short]),
        backend("long", &[long]),
        route("HTTPRoute", "all", way.parent(), rules),
        idle("short", "4s"),
        idle("long", "1h"),
    ];
    let scene = Scene::start(way, mode, documents);
    scene.all(&vec![get("/long", &[]); 10]);
    scene.all(&vec![get("/", &[]); 30]);
    assert_eq!((connections_of(&scene, long), connections_of(&scene, short).0), ((1, 1), 1));
    let closed = || (connections_of(&scene, short).1 == 0).then_some(());
    eventually(DEADLINE, "the connection to be closed", closed);
    // The other one was used before it.
    assert_eq!(connections_of(&scene, long), (1, 1));
    assert_eq!(scene.get("/").status(), 200);
    assert_eq!(connections_of(&scene, short).0, 2);
}
by_every_way!(reused_until_idle: Ebpf, Iptables);

/// It outlives its client, and serves the next one.
fn outlives_its_client(mode: Mode) {
    let policy: Value = json!({"connectionPool": {"idleTimeout": "1h"}});
    let scene = started(Way::Outbound, mode, &BACKENDS[..1], policy);
    for _ in 0..40 {
        scene.get("/");
    }
    let (all, open) = connections(&scene);
    // Each of the sidecar's threads keeps its own.
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(all <= threads && open == all, "{all} connections, of which {open} are open");
}
in_modes!(outlives_its_client: Ebpf);
