//! A request keeps the policies with which it began.

use std::fs;

use sidecar_tests::{DEADLINE, Mode, Program, eventually, in_modes, python};

use super::super::scene::{BACKENDS, Scene, config, get};
use super::super::{Way, case};
use super::{GENERATION, version};

#[track_caller]
fn keeps_its_version(way: Way, mode: Mode) {
    let [first, second, _] = BACKENDS;
    let scene = Scene::start(way, mode, version(way, 1, &[first]));
    let text = get("/hold", &[]);
    let case = format!("[{}]", case("held", &[Some(&text), None, Some(&get("/after", &[])), None], Some(0)));
    let args = scene.client_args("cases", &[&case]);
    let mut held = Program::start(python(&scene.from(), "http_client.py").args(args));
    eventually(DEADLINE, "the request to come", || (!scene.seen(first).is_empty()).then_some(()));

    let new = config(way, mode, &scene.logs, version(way, 2, &[second])).text();
    fs::write(scene.sidecar.config_file(), new).unwrap();
    scene.counted("sidecar_config_generation", 2);
    let after = scene.get("/new");
    assert_eq!((after.port(), after.field(GENERATION)), (second, Some("2")));
    scene.tell(first, "release=1");
    let seen: serde_json::Value = serde_json::from_str(&held.wait().success()).unwrap();
    let [begun, next] = [0, 1].map(|index| &seen["answers"][index]);
    assert_eq!((&begun["status"], &begun["headers"][GENERATION]), (&200.into(), &"1".into()), "{seen:#}");
    // The next one on the same connection gets the new ones.
    assert_eq!((&next["status"], &next["headers"][GENERATION]), (&200.into(), &"2".into()), "{seen:#}");
    assert_eq!(next["headers"]["x-port"], second.to_string(), "{seen:#}");
}

fn outbound(mode: Mode) {
    keeps_its_version(Way::Outbound, mode);
}
in_modes!(outbound: Ebpf, Iptables);

fn inbound(mode: Mode) {
    keeps_its_version(Way::Inbound, mode);
}
in_modes!(inbound: Ebpf, Iptables);

fn listener(mode: Mode) {
    keeps_its_version(Way::Listener, mode);
}
in_modes!(listener: Ebpf);
