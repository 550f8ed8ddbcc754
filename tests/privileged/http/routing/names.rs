//! Backends whose endpoints are names.

use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Mode, PEER4, Program, Sidecar, eventually, in_modes, python};

use super::super::Way;
use super::super::documents::{backend_at, route, to};
use super::super::scene::{BACKENDS, Scene, config, network};

/// Further addresses of the peer.
const OTHER: &str = "10.7.0.3";
const THIRD: &str = "10.7.0.4";

/// What the sidecar is to find in place of the machine's own.
fn started(way: Way, mode: Mode, files: &[(&str, &str)], endpoints: Value) -> Scene {
    let (net, logs) = (network(), tempfile::tempdir().unwrap());
    for address in [OTHER, THIRD] {
        net.peer.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"]);
    }
    let rules = json!([{"backendRefs": [to("app")]}]);
    let documents = [backend_at("app", "http1", endpoints), route("HTTPRoute", "all", way.parent(), rules)];
    let config = config(way, mode, &logs, documents);
    let sidecar = Sidecar::start_with_files(&net.pod, &config, files);
    Scene::of(way, net, logs, sidecar)
}

/// Waits until a request is answered from there.
#[track_caller]
fn answered_by(scene: &Scene, address: &str) {
    eventually(DEADLINE, &format!("an answer of {address}"), || {
        let reply = scene.get("/");
        (reply.status() == 200 && reply.asked()["address"] == address).then_some(())
    });
}

fn hosts_file(mode: Mode) {
    let hosts = format!("127.0.0.1 localhost\n{OTHER} app.test\n");
    let endpoints = json!([{"dns": format!("app.test:{}", BACKENDS[0])}]);
    let scene = started(Way::Listener, mode, &[("/etc/hosts", &hosts)], endpoints);
    answered_by(&scene, OTHER);
    let line = eventually(DEADLINE, "a good answer in the log", || {
        Some(scene.logged("/")).filter(|line| line["endpoint"].is_string())
    });
    assert_eq!(line["endpoint"], crate::at(OTHER, BACKENDS[0]), "{line}");
}
in_modes!(hosts_file: Ebpf);

/// What a name says changes, and requests follow; while nobody answers for it, they stay where they were.
fn name_server(mode: Mode) {
    let endpoints = json!([{"dns": format!("app.test:{}", BACKENDS[0])}]);
    let hosts = "127.0.0.1 localhost\n";
    let files =
        [("/etc/hosts", hosts), ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")];
    let scene = started(Way::Listener, mode, &files, endpoints);
    scene.get("/early").is_own(503, "no-healthy-upstream");
    let mut names = Program::start(python(&scene.net.pod.place(), "names_server.py").arg("127.0.0.1"));
    names.wait_for_output("listening");
    let say = |names: &mut Program, said: &str| {
        names.say(&format!("app.test 1 {said}\n"));
        names.wait_for_output(&format!("told app.test 1 {said}"));
    };
    say(&mut names, PEER4);
    answered_by(&scene, PEER4);
    say(&mut names, OTHER);
    answered_by(&scene, OTHER);
    say(&mut names, &format!("{OTHER} {THIRD}"));
    answered_by(&scene, THIRD);
    answered_by(&scene, OTHER);
    drop(names);
    for _ in 0..20 {
        assert_eq!(scene.get("/late").status(), 200);
    }
}
in_modes!(name_server: Ebpf);
