//! What is wrong changes nothing, and is told.

use std::fs;

use serde_json::Value;
use sidecar_tests::{DEADLINE, Mode, eventually, in_modes};

use super::super::Way;
use super::super::scene::{BACKENDS, Scene, config, get};
use super::{GENERATION, version};

/// Makes something wrong of the route, and says which field, and what is said of it.
type Spoil = fn(&mut Value) -> (&'static str, &'static str);

fn bad_value(route: &mut Value) -> (&'static str, &'static str) {
    route["spec"]["rules"][0]["timeouts"] = serde_json::json!({"request": "soon"});
    ("spec.rules[0].timeouts.request", "soon")
}

fn unknown_field(route: &mut Value) -> (&'static str, &'static str) {
    route["spec"]["rules"][0]["timeout"] = "1s".into();
    ("spec.rules[0]", "timeout")
}

fn no_parent(route: &mut Value) -> (&'static str, &'static str) {
    route["spec"]["parentRefs"] = serde_json::json!([]);
    ("spec.parentRefs", "is empty")
}

fn bad_files(mode: Mode) {
    let way = Way::Outbound;
    let mut scene = Scene::start(way, mode, version(way, 1, &BACKENDS));
    let spoils: [Spoil; 3] = [bad_value, unknown_field, no_parent];
    for (refusals, spoil) in (1..).zip(spoils) {
        let mut documents = version(way, 2, &BACKENDS);
        let (field, word) = spoil(&mut documents[1]);
        fs::write(scene.sidecar.config_file(), config(way, mode, &scene.logs, documents).text()).unwrap();
        scene.counted("sidecar_config_rejected_total", refusals);
        let file = scene.sidecar.config_file().display().to_string();
        eventually(DEADLINE, &format!("a word about {field}"), || {
            let said = scene.sidecar.program().stderr();
            let named = |line: &str| {
                let Some((_, rest)) = line.split_once(&format!("{file}:")) else { return false };
                let Some((number, rest)) = rest.split_once(": ") else { return false };
                number.parse::<u32>().is_ok() && rest.starts_with(field) && rest.contains(word)
            };
            said.lines().any(named).then_some(())
        });
        let reply = scene.one(&get("/old", &[]));
        assert_eq!((reply.status(), reply.field(GENERATION)), (200, Some("1")));
        assert_eq!(scene.metric("sidecar_config_generation"), 1);
    }
    fs::write(scene.sidecar.config_file(), config(way, mode, &scene.logs, version(way, 2, &BACKENDS)).text())
        .unwrap();
    scene.counted("sidecar_config_generation", 2);
    assert_eq!(scene.get("/new").field(GENERATION), Some("2"));
    assert_eq!(scene.metric("sidecar_config_rejected_total"), 3);
}
in_modes!(bad_files: Ebpf);
