//! An issuer's keys change.

use std::fs;

use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Mode, PEER4, eventually, http_server, in_modes};

use super::super::Way;
use super::super::documents::access;
use super::super::scene::{Scene, config, network};
use super::{ISSUER, Tokens, claims, routed};

/// Where keys are fetched from.
const ISSUERS_PORT: u16 = 9400;

/// The first key, then both, then the second one only; and what cannot be read changes nothing.
#[track_caller]
fn rotates(mode: Mode, source: impl Fn(&std::path::Path) -> Value) {
    let way = Way::Outbound;
    let tokens = Tokens::new(
        json!({"old": "ES256", "new": "RS256"}),
        json!({"old": ["old", claims(json!({}))], "new": ["new", claims(json!({}))]}),
    );
    let (net, logs, directory) = (network(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = directory.path().join("jwks.json");
    let put = |text: &str| {
        let new = directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &file).unwrap();
    };
    put(&tokens.keys(&["old"]));
    let _issuer = http_server(&net.peer, &net.peer.place(), ISSUERS_PORT, directory.path());
    let policy = json!({"jwt": [{"issuer": ISSUER, "jwks": source(directory.path())}]});
    let documents = routed(way).into_iter().chain([access("who", way.target(), policy)]);
    let sidecar = sidecar_tests::Sidecar::start(&net.pod, &config(way, mode, &logs, documents));
    let scene = Scene::of(way, net, logs, sidecar);
    let status = |name: &str| scene.get_with("/", &[("authorization", &tokens.bearer(name))]).status();
    let comes_to = |wanted: (u64, u64)| {
        eventually(DEADLINE, &format!("{wanted:?} for old and new"), || {
            ((status("old"), status("new")) == wanted).then_some(())
        });
    };
    comes_to((200, 401));
    put(&tokens.keys(&["old", "new"]));
    comes_to((200, 200));
    put(&tokens.keys(&["new"]));
    comes_to((401, 200));
    put("{");
    let mut sidecar = scene.sidecar;
    eventually(DEADLINE, "a word about the keys", || {
        sidecar.program().stderr().contains("the keys of before are kept").then_some(())
    });
}

fn file(mode: Mode) {
    rotates(mode, |directory| json!({"file": directory.join("jwks.json"), "refresh": "1s"}));
}
in_modes!(file: Ebpf);

fn uri(mode: Mode) {
    rotates(mode, |_| json!({"uri": format!("http://{PEER4}:{ISSUERS_PORT}/jwks.json"), "refresh": "1s"}));
}
in_modes!(uri: Ebpf);
