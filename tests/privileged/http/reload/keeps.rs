//! What is known of a backend stays known when something else changes.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Mode, Program, Sidecar, eventually, in_modes, python};

use super::super::Way;
use super::super::documents::{backend, backend_at, route, to, traffic};
use super::super::scene::{BACKENDS, Scene, config, get, network};
use super::GENERATION;

const EJECTED: &str = "sidecar_ejected_endpoints{backend=\"app\"}";

/// A backend, what is said of it, and a route whose answers say which version this is.
fn version(way: Way, generation: u32, app: &Value, policy: &Value) -> [Value; 3] {
    let set = json!({"set": [{"name": GENERATION, "value": generation.to_string()}]});
    let filter = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": set});
    let rules = json!([{"filters": [filter], "backendRefs": [to("app")]}]);
    [app.clone(), traffic("app", to("app"), policy.clone()), route("HTTPRoute", "all", way.parent(), rules)]
}

/// Changes the route so many times more, and waits until each version is in use.
#[track_caller]
fn reload(scene: &mut Scene, mode: Mode, app: &Value, policy: &Value, times: std::ops::Range<u32>) {
    for generation in times {
        let text = config(scene.way, mode, &scene.logs, version(scene.way, generation, app, policy)).text();
        fs::write(scene.sidecar.config_file(), text).unwrap();
        scene.sidecar.program().signal(Signal::SIGHUP);
        scene.counted("sidecar_config_generation", u64::from(generation) + 1);
    }
    eventually(DEADLINE, "the last version", || (scene.get("/").field(GENERATION)? != "0").then_some(()));
}

/// A server that was left out stays so, and a kept connection is used further.
fn endpoints(mode: Mode) {
    let way = Way::Outbound;
    let app = backend("app", &BACKENDS[..2]);
    let policy = json!({
        "loadBalancer": {"type": "RoundRobin"},
        "connectionPool": {"idleTimeout": "1h"},
        "outlierDetection": {"consecutive5xxErrors": 1, "interval": "1s", "baseEjectionTime": "1h"},
    });
    let mut scene = Scene::start(way, mode, version(way, 0, &app, &policy));
    scene.tell(BACKENDS[0], "status=500");
    scene.all(&vec![get("/", &[]); 4]);
    assert_eq!(scene.metric(EJECTED), 1);
    let came = scene.seen(BACKENDS[0]).len();
    reload(&mut scene, mode, &app, &policy, 1..6);
    assert_eq!(scene.metric(EJECTED), 1);
    for _ in 0..10 {
        scene.get("/").is_of(BACKENDS[1], 200);
    }
    assert_eq!(scene.seen(BACKENDS[0]).len(), came);
    let connections = scene.tell(BACKENDS[1], "")["connections"].as_u64().unwrap();
    // Each of the sidecar's threads keeps its own.
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(connections <= threads, "{connections}");

    // What is said of the backend itself is begun anew.
    let other = json!({"loadBalancer": {"type": "RoundRobin"}});
    reload(&mut scene, mode, &app, &other, 6..7);
    assert_eq!(scene.metric(EJECTED), 0);
}
in_modes!(endpoints: Ebpf);

/// A name is not looked up before the next request is sent to what it was known to be.
fn names(mode: Mode) {
    let way = Way::Listener;
    let app = backend_at("app", "http1", json!([{"dns": format!("app.test:{}", BACKENDS[0])}]));
    let (net, logs) = (network(), tempfile::tempdir().unwrap());
    let hosts = logs.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n10.7.0.2 app.test\n").unwrap();
    let text = config(way, mode, &logs, version(way, 0, &app, &json!({})));
    let place = net.pod.place().with_file(&hosts, "/etc/hosts");
    let sidecar = Sidecar::start_at(&place, &net.pod, &text);
    let mut scene = Scene::of(way, net, logs, sidecar);
    eventually(DEADLINE, "the name to be known", || (scene.get("/").status() == 200).then_some(()));
    let args = scene.client_args("watch", &["/watched", GENERATION]);
    let mut watch = Program::start(python(&scene.from(), "http_client.py").args(args));
    watch.wait_for_output("0\n");
    reload(&mut scene, mode, &app, &json!({}), 1..11);
    watch.wait_for_output("\n10\n");
    watch.close_stdin();
    watch.wait().success();
}
in_modes!(names: Ebpf);
