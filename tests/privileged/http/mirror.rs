//! Mirrors: they get copies of requests with their bodies, and nobody waits for them.

use serde_json::{Value, json};
use sidecar_tests::{Config, DEADLINE, Mode, PEER4, eventually, in_modes, listen, serve_http};

use super::{FRONT, Http, Way, case, client, get};
use crate::at;

/// Where the mirror is.
const MIRROR: u16 = 8081;

/// A listener whose route sends requests to the backend `app`, and copies to the mirror.
fn mirrored(config: Config) -> Config {
    let backend = |name: &str| json!({"group": "sidecar.dev", "kind": "Backend", "name": name});
    config
        .with("listeners", json!([{"name": "front", "address": format!("0.0.0.0:{FRONT}")}]))
        .with_backend("mirror", json!([{"address": at(PEER4, MIRROR)}]))
        .with_document(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "mirrored"},
            "spec": {
                "parentRefs": [{"group": "sidecar.dev", "kind": "Listener", "name": "front"}],
                "rules": [{
                    "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": backend("mirror")}}],
                    "backendRefs": [backend("app")],
                }],
            },
        }))
}

fn gets_bodies(mode: Mode) {
    let http = Http::with(Way::Listener, mode, mirrored);
    let _mirror = serve_http(&http.net.peer.place(), MIRROR);
    for framing in ["length", "chunked"] {
        let seen = http.client("transfer", &["/echo", "300000", framing]).remove(0);
        let answer = &seen["answer"];
        assert_eq!((&answer["status"], &answer["digest"]), (&200.into(), &seen["sent"]), "{seen:#}");
    }
    let asked = case("count", &[Some(&get("/count"))], Some(1)).to_string();
    eventually(DEADLINE, "both bodies at the mirror", || {
        let seen = client(&http.net.peer.place(), ("127.0.0.1", MIRROR), "cases", &[&format!("[{asked}]")]);
        let seen: Value = serde_json::from_str(seen[0]["answers"][0]["body"].as_str()?).ok()?;
        (seen["whole"] == 2).then_some(())
    });
    assert_eq!(http.sidecar.metric("sidecar_mirrors_cut_total"), 0);
}
in_modes!(gets_bodies: Ebpf);

/// One that takes nothing is given up, and the request does not notice.
fn is_given_up_when_it_is_slow(mode: Mode) {
    let http = Http::with(Way::Listener, mode, mirrored);
    let _mute = listen(&http.net.peer.place(), &(MIRROR..MIRROR + 1));
    let seen = http.client("transfer", &["/echo", "30000000", "length"]).remove(0);
    let answer = &seen["answer"];
    assert_eq!((&answer["status"], &answer["digest"]), (&200.into(), &seen["sent"]), "{seen:#}");
    assert_eq!(http.sidecar.metric("sidecar_mirrors_cut_total"), 1);
}
in_modes!(is_given_up_when_it_is_slow: Ebpf);
