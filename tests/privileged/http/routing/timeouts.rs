//! How long a request may take, and how often it is tried.

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{Mode, in_modes};

use super::super::Way;
use super::super::documents::{backend, route, to, traffic};
use super::super::scene::{BACKENDS, Scene, request};

fn rule(prefix: &str, said: &[(&str, Value)]) -> Value {
    let mut rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "backendRefs": [to("app")],
    });
    for (name, value) in said {
        rule[name] = value.clone();
    }
    rule
}

/// The flags, reason and number of attempts of the request for this path.
fn said(scene: &Scene, path: &str) -> (Value, Value, Value) {
    let mut line = scene.logged(path);
    (line["flags"].take(), line["reason"].take(), line["attempts"].take())
}

#[track_caller]
fn passes(way: Way, mode: Mode) {
    let [first, second, _] = BACKENDS;
    let rules = json!([
        rule("/hold/request", &[("timeouts", json!({"request": "300ms"}))]),
        rule("/hold/backend", &[("timeouts", json!({"request": "10s", "backendRequest": "200ms"}))]),
        rule(
            "/slow",
            &[
                ("timeouts", json!({"request": "10s", "backendRequest": "500ms"})),
                ("retry", json!({"attempts": 3, "codes": [504], "backoff": "5ms"})),
            ]
        ),
        rule("/delay/200", &[("timeouts", json!({"request": "8s", "backendRequest": "5s"}))]),
    ]);
    let in_turn = json!({"loadBalancer": {"type": "RoundRobin"}});
    let documents = [
        backend("app", &[first, second]),
        route("HTTPRoute", "all", way.parent(), rules),
        traffic("in-turn", to("app"), in_turn),
    ];
    let scene = Scene::start(way, mode, documents);
    scene.get("/hold/request").is_own(504, "request-timeout");
    assert_eq!(said(&scene, "/hold/request"), ("UT".into(), "request-timeout".into(), 1.into()));
    scene.get("/hold/backend").is_own(504, "upstream-timeout");
    assert_eq!(said(&scene, "/hold/backend"), ("UT".into(), "upstream-timeout".into(), 1.into()));
    // One endpoint is too slow: the other one is tried.
    scene.tell(first, "pause=15000");
    for round in 0..8 {
        scene.get(&format!("/slow/{round}")).is_of(second, 200);
    }
    scene.tell(first, "release=1");
    assert!(scene.metric("sidecar_retries_total") > 0);
    assert_eq!(scene.get("/delay/200").status(), 200);
}
by_every_way!(passes: Ebpf, Iptables);

#[track_caller]
fn retries(way: Way, mode: Mode) {
    let [first, second, _] = BACKENDS;
    let retry = json!({"attempts": 2, "codes": [503], "backoff": "5ms"});
    let rules = json!([rule("/retried", &[("retry", retry)]), rule("/", &[])]);
    let documents = [backend("app", &[first, second]), route("HTTPRoute", "all", way.parent(), rules)];
    let scene = Scene::start(way, mode, documents);
    scene.tell(first, "status=503");
    // Where an answer says that it may be tried again, also what is not idempotent is.
    let texts: Vec<String> = (0..16)
        .map(|round| request(if round % 2 == 0 { "GET" } else { "POST" }, &format!("/retried/{round}"), &[]))
        .collect();
    scene.all(&texts).iter().for_each(|reply| reply.is_of(second, 200));
    let retried = scene.metric("sidecar_retries_total");
    assert!((1..=16).contains(&retried), "{retried}");
    assert_eq!(scene.seen(first).len() as u64, retried);

    // When all attempts are used up, the last answer is the client's.
    scene.tell(second, "status=503");
    assert_eq!(scene.get("/retried/in-vain").status(), 503);
    let (.., attempts) = said(&scene, "/retried/in-vain");
    assert_eq!(attempts, 3);
    // Other statuses are none to try again after, nor are they where nothing is said of it.
    scene.tell(first, "status=500");
    scene.tell(second, "status=500");
    assert_eq!(scene.get("/retried/other").status(), 500);
    assert_eq!(said(&scene, "/retried/other").2, 1);
    scene.tell(first, "status=503");
    scene.tell(second, "status=503");
    assert_eq!(scene.get("/once").status(), 503);
    assert_eq!(said(&scene, "/once").2, 1);
}
by_every_way!(retries: Ebpf, Iptables);

/// The body that was kept is sent again whole.
fn retries_with_a_body(mode: Mode) {
    let [first, second, _] = BACKENDS;
    let retry = json!({"attempts": 2, "codes": [503], "backoff": "5ms"});
    let rules = json!([rule("/", &[("retry", retry)])]);
    let way = Way::Outbound;
    let scene = Scene::start(
        way,
        mode,
        [backend("app", &[first, second]), route("HTTPRoute", "all", way.parent(), rules)],
    );
    scene.tell(first, "status=503");
    let body = "0123456789".repeat(100);
    let text = request("POST", "/body", &[("Content-Length", "1000")]) + &body;
    for reply in scene.all(&vec![text; 24]) {
        reply.is_of(second, 200);
        assert_eq!(reply.asked()["body"], body);
    }
    assert!(scene.metric("sidecar_retries_total") > 0);
}
in_modes!(retries_with_a_body: Ebpf);
