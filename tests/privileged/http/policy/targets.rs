//! What a policy is said of: all that comes in there, a route, a backend.

use crate::http::by_every_way;
use serde_json::json;
use sidecar_tests::{Mode, in_modes};

use super::super::Way;
use super::super::documents::{access, backend, of_route, route, to};
use super::super::scene::{BACKENDS, Scene, get};

/// Each must let a request pass.
#[track_caller]
fn each_of_them(way: Way, mode: Mode) {
    let deny = |path: &str| json!({"rules": [{"action": "DENY", "to": {"paths": [path]}}]});
    let rules = json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": "/b"}}], "backendRefs": [to("b")]},
        {"backendRefs": [to("a")]},
    ]);
    let mut documents = vec![
        backend("a", &BACKENDS[..1]),
        backend("b", &BACKENDS[1..2]),
        route("HTTPRoute", "all", way.parent(), rules),
        access("place", way.target(), deny("*/place")),
        access("route", of_route("HTTPRoute", "all"), deny("*/route")),
        access("backend", to("b"), deny("*/backend")),
    ];
    documents.extend(
        (way == Way::Outbound)
            .then(|| super::super::documents::service("other", "10.96.0.11", &[("http", 80)])),
    );
    let scene = Scene::start(way, mode, documents);
    for (path, port) in [
        ("/a/x", Some(0)),
        ("/a/place", None),
        ("/a/route", None),
        ("/a/backend", Some(0)),
        ("/b/x", Some(1)),
        ("/b/place", None),
        ("/b/route", None),
        ("/b/backend", None),
    ] {
        let reply = scene.one(&get(path, &[]));
        match port {
            Some(index) => reply.is_of(BACKENDS[index], 200),
            None => reply.is_own(403, "access-denied"),
        }
    }
}
by_every_way!(each_of_them: Ebpf, Iptables);

/// This workload's own port has policies also where it has no routes; other ports have none of them.
fn without_routes(mode: Mode) {
    let way = Way::Inbound;
    let tokens = json!([{"name": "test", "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}]);
    let scene = Scene::start(way, mode, [access("own", way.target(), json!({"tokens": tokens}))]);
    scene.get("/").is_own(401, "unauthenticated");
    scene.get_with("/", &[("authorization", "Bearer test")]).is_of(super::super::PORT, 200);
    let _other = sidecar_tests::serve_backends(&scene.sidecar.place(), &[8095]);
    let seen = sidecar_tests::ask_http(
        &scene.from(),
        &[
            "cases",
            way.dialled().0,
            "8095",
            &format!("[{}]", super::super::case("other", &[Some(&get("/", &[]))], Some(1))),
        ],
    );
    assert_eq!(seen[0]["answers"][0]["status"], 200, "{seen:#?}");
}
in_modes!(without_routes: Ebpf, Iptables);
