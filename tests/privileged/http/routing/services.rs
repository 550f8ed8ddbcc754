//! Service and EndpointSlice documents, as Kubernetes writes them.

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{Mode, PEER4, ask_http, in_modes};

use super::super::documents::{route, service};
use super::super::scene::{BACKENDS, Reply, Scene, get};
use super::super::{Way, case};

/// One endpoint of a Service.
fn slice(service: &str, number: u16, port: u16, ready: bool) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{number}"),
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
            "resourceVersion": "17",
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [PEER4], "conditions": {"ready": ready, "serving": ready}, "nodeName": "node"}],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    })
}

fn slices(service: &str) -> Vec<Value> {
    let [first, second, unready] = BACKENDS;
    let each = [(first, true), (second, true), (unready, false)];
    (0..).zip(each).map(|(number, (port, ready))| slice(service, number, port, ready)).collect()
}

/// Without a route, a Service's endpoints serve what is meant for it; those that are not ready do not.
fn endpoints(mode: Mode) {
    let scene = Scene::start(Way::Outbound, mode, slices("web"));
    let [first, second, unready] = BACKENDS;
    let shares = scene.shares(&vec![get("/", &[]); 40]);
    assert!(shares[&first] > 0 && shares[&second] > 0 && !shares.contains_key(&unready), "{shares:?}");
    let line = scene.logged("/");
    assert_eq!(
        (&line["route"], &line["backend"]),
        (&"default/web/0".into(), &"default/web:80".into()),
        "{line}"
    );
    // By its name, wherever that leads; and by its address, whatever the host.
    let text = |host: &str| get("/", &[("Host", host)]);
    let hosts = ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "WEB.default:80"];
    for host in hosts {
        let cases = format!("[{}]", case("elsewhere", &[Some(&text(host)), None], Some(0)));
        let seen = ask_http(&scene.from(), &["cases", PEER4, "80", &cases]).remove(0);
        let reply = Reply(seen["answers"][0].clone());
        assert!([first, second].contains(&reply.port()), "{host}: {seen:#}");
    }
    assert_eq!(scene.one(&text("other.example.com")).status(), 200);
}
in_modes!(endpoints: Ebpf, Iptables);

/// A Service as a route's backend.
#[track_caller]
fn as_backend(way: Way, mode: Mode) {
    let rules = json!([{"backendRefs": [{"name": "other", "port": 8000}]}]);
    let mut documents = slices("other");
    documents.push(service("other", "10.96.0.99", &[("http", 8000)]));
    documents.push(route("HTTPRoute", "all", way.parent(), rules));
    let scene = Scene::start(way, mode, documents);
    let shares = scene.shares(&vec![get("/", &[]); 40]);
    let [first, second, _] = BACKENDS;
    assert!(shares[&first] > 0 && shares[&second] > 0 && shares.len() == 2, "{shares:?}");
    assert_eq!(scene.logged("/")["backend"], "default/other:8000");
}
by_every_way!(as_backend: Ebpf, Iptables);

/// No endpoint that is ready: nobody is asked.
fn none_ready(mode: Mode) {
    let scene = Scene::start(Way::Outbound, mode, [slice("web", 0, BACKENDS[0], false)]);
    scene.get("/nobody").is_own(503, "no-healthy-upstream");
    assert_eq!(scene.logged("/nobody")["flags"], "UH");
}
in_modes!(none_ready: Ebpf);
