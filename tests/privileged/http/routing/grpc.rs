//! GRPCRoute, by service and method, with real clients and servers.

use crate::http::by_every_way;
use std::process::Command;

use serde_json::{Value, json};
use sidecar_tests::{Finished, Mode, Place, Program, in_modes, require, tool};

use super::super::Way;
use super::super::documents::{backend_of, of_route, route, to, traffic};
use super::super::scene::Scene;

const PORTS: [u16; 2] = [9101, 9102];

/// `programs/grpc_backends.py`
pub(in crate::http) fn program(place: &Place, args: &[&str]) -> Command {
    let mut command = place.command(tool("grpcio", "python").unwrap());
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/programs/grpc_backends.py")).args(args);
    command
}

/// Servers on these ports.
pub(in crate::http) fn serve(place: &Place, ports: &[u16]) -> Program {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut args = vec!["serve"];
    args.extend(ports.iter().map(String::as_str));
    let mut server = Program::start(&mut program(place, &args));
    server.wait_for_output("listening");
    server
}

/// What each of these calls was told.
#[track_caller]
pub(in crate::http) fn call(scene: &Scene, calls: Value) -> Value {
    let (host, port) = scene.way.dialled();
    let args = ["client", host, &port.to_string(), &calls.to_string()];
    serde_json::from_str(&Finished::of(&mut program(&scene.from(), &args)).success()).unwrap()
}

#[track_caller]
fn routes(way: Way, mode: Mode) {
    require!(@ tool("grpcio", "python"));
    let [first, second] = PORTS;
    let method = |said: Value| json!([{"method": said}]);
    let told = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-told", "value": "1"}]}}]);
    let rules = json!([
        {"name": "service", "matches": method(json!({"service": "test.One"})), "backendRefs": [to("first")]},
        {"matches": method(json!({"service": "test.One", "method": "Other"})), "backendRefs": [to("second")]},
        {"matches": method(json!({"method": "Any"})), "backendRefs": [to("second")]},
        {
            "matches": [{"method": {"service": "test.Two"}, "headers": [{"name": "x-to", "value": "second"}]}],
            "backendRefs": [to("second")],
        },
        {"matches": method(json!({"service": "test.Two"})), "filters": told, "backendRefs": [to("first")]},
        {"matches": method(json!({"service": "test.Lost"})), "backendRefs": [to("missing")]},
    ]);
    let abort =
        json!({"fault": {"abort": {"grpcStatus": 8, "headers": [{"name": "x-chaos", "value": "1"}]}}});
    let scene = Scene::start(
        way,
        mode,
        [
            backend_of("first", "grpc", &[first]),
            backend_of("second", "grpc", &[second]),
            route("GRPCRoute", "calls", way.parent(), rules),
            traffic("chaos", of_route("GRPCRoute", "calls"), abort),
        ],
    );
    let _servers = serve(&scene.net.peer.place(), &PORTS);
    let said = call(
        &scene,
        json!([
            ["/test.One/Call", {}],
            ["/test.One/Other", {}],
            ["/test.Three/Any", {}],
            ["/test.Two/Call", {"x-to": "second"}],
            ["/test.Two/Call", {}],
            ["/test.Two/Told", {}],
            ["/test.One/Call", {"x-chaos": "1"}],
            ["/test.Lost/Call", {}],
            ["/test.Onesided/Call", {}],
        ]),
    );
    let (first, second) = (first.to_string(), second.to_string());
    assert_eq!(
        said,
        json!([
            ["OK", first],
            ["OK", second],
            ["OK", second],
            ["OK", second],
            ["OK", first],
            ["OK", "1"],
            ["RESOURCE_EXHAUSTED", "fault-injected"],
            ["UNKNOWN", "invalid-backend"],
            ["UNIMPLEMENTED", "no-route"],
        ])
    );
    let line = scene.logged("/test.One/Call");
    assert_eq!((&line["route"], &line["grpcStatus"]), (&"default/calls/service".into(), &0.into()), "{line}");
}
by_every_way!(routes: Ebpf, Iptables);

/// What is no POST to a service's method is none of a GRPCRoute's.
fn no_call(mode: Mode) {
    let rules = json!([{"backendRefs": [to("first")]}]);
    let way = Way::Listener;
    let scene = Scene::start(
        way,
        mode,
        [backend_of("first", "grpc", &PORTS), route("GRPCRoute", "calls", way.parent(), rules)],
    );
    scene.get("/test.One/Call").is_own(404, "no-route");
}
in_modes!(no_call: Ebpf);
