//! `healthCheck`

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Mode, eventually, in_modes, require, serve_backends, tool};

use super::super::Way;
use super::super::documents::{backend_of, route, to, traffic};
use super::super::routing::grpc;
use super::super::scene::{BACKENDS, Scene, get};
use super::started;

/// Of a server that comes late.
const LATE: u16 = 9301;
/// Of gRPC servers.
const PORTS: [u16; 2] = [9101, 9102];
/// Requests that are looked at together: that they happen to miss a server that is used is less likely than one in 100,000.
const TOGETHER: usize = 30;

fn policy(probe: &str, said: Value) -> Value {
    let mut check =
        json!({"interval": "100ms", "timeout": "2s", "unhealthyThreshold": 2, "healthyThreshold": 2});
    check[probe] = said;
    json!({"loadBalancer": {"type": "RoundRobin"}, "healthCheck": check})
}

/// Waits until these ports serve, in turn, and no others; until they have been asked, all count as healthy.
#[track_caller]
fn served_by(scene: &Scene, ports: &[u16]) {
    let wanted: BTreeMap<u16, usize> = ports.iter().map(|port| (*port, TOGETHER / ports.len())).collect();
    eventually(DEADLINE, &format!("answers of {ports:?}"), || {
        let mut shares = BTreeMap::new();
        for reply in scene.all(&vec![get("/", &[]); TOGETHER]) {
            // 0: the sidecar's own.
            *shares.entry(reply.field("x-port").map_or(0, |port| port.parse().unwrap())).or_insert(0) += 1;
        }
        (shares == wanted).then_some(())
    });
}

#[track_caller]
fn http(way: Way, mode: Mode) {
    let [first, second, third] = BACKENDS;
    let scene = started(
        way,
        mode,
        &BACKENDS,
        policy("http", json!({"path": "/healthz", "expectedStatuses": [200, 204]})),
    );
    served_by(&scene, &BACKENDS);
    scene.tell(first, "health=503");
    served_by(&scene, &[second, third]);
    scene.tell(first, "health=204");
    served_by(&scene, &BACKENDS);
    // Where most are unhealthy it may well be the checks that are wrong: all serve.
    scene.tell(first, "health=503");
    served_by(&scene, &[second, third]);
    scene.tell(second, "health=503");
    served_by(&scene, &BACKENDS);
}

fn http_outbound(mode: Mode) {
    http(Way::Outbound, mode);
}
in_modes!(http_outbound: Ebpf, Iptables);

fn http_listener(mode: Mode) {
    http(Way::Listener, mode);
}
in_modes!(http_listener: Ebpf);

/// A server that is not there is found without a request.
fn tcp(mode: Mode) {
    let scene = started(Way::Outbound, mode, &[BACKENDS[0], LATE], policy("tcp", json!({})));
    served_by(&scene, &BACKENDS[..1]);
    let server = serve_backends(&scene.net.peer.place(), &[LATE]);
    served_by(&scene, &[BACKENDS[0], LATE]);
    drop(server);
    served_by(&scene, &BACKENDS[..1]);
}
in_modes!(tcp: Ebpf);

fn grpc_health(mode: Mode) {
    require!(@ tool("grpcio", "python"));
    let way = Way::Outbound;
    let documents = [
        backend_of("app", "grpc", &PORTS),
        route("GRPCRoute", "all", way.parent(), json!([{"backendRefs": [to("app")]}])),
        traffic("app", to("app"), policy("grpc", json!({"service": "test.One"}))),
    ];
    let scene = Scene::start(way, mode, documents);
    let mut servers = grpc::serve(&scene.net.peer.place(), &PORTS);
    let served_by = |ports: &[u16]| {
        let each = ports.iter().map(|port| vec![json!(["OK", port.to_string()]); TOGETHER / ports.len()]);
        let wanted: Vec<Value> = each.flatten().collect();
        let calls = Value::from(vec![json!(["/test.One/Call", {}]); TOGETHER]);
        eventually(DEADLINE, &format!("answers of {ports:?}"), || {
            let mut seen = grpc::call(&scene, calls.clone()).as_array().unwrap().clone();
            seen.sort_by_key(Value::to_string);
            (seen == wanted).then_some(())
        });
    };
    served_by(&PORTS);
    servers.say("9101 2\n");
    servers.wait_for_output("told 9101 2");
    served_by(&PORTS[1..]);
    servers.say("9101 1\n");
    servers.wait_for_output("told 9101 1");
    served_by(&PORTS);
}
in_modes!(grpc_health: Ebpf);
