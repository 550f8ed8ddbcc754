//! Servers of HTTP/2 that end their connections in good order (RFC 9113 section 6.8): no request is lost by it.

use serde_json::{Value, json};
use sidecar_tests::{Finished, Mode, Nginx, in_modes, require, tool};

use super::super::Way;
use super::super::documents::{backend_of, route, to};
use super::super::routing::grpc;
use super::super::scene::Scene;

const PORT: u16 = 9600;

fn started(way: Way, mode: Mode, kind: &str, protocol: &str) -> Scene {
    let rules = json!([{"backendRefs": [to("app")]}]);
    Scene::start(way, mode, [backend_of("app", protocol, &[PORT]), route(kind, "all", way.parent(), rules)])
}

/// nginx ends each connection after some requests, while others are under way on it.
#[track_caller]
fn after_requests(way: Way, mode: Mode) {
    require!(program "nginx");
    require!(program "h2load");
    let scene = started(way, mode, "HTTPRoute", "http2");
    let server =
        format!("keepalive_requests 20; server {{ listen 0.0.0.0:{PORT} http2; return 200 'hello'; }}");
    let _nginx = Nginx::serving(&scene.net.peer, &scene.net.peer.place(), PORT, &server);
    let (host, port) = way.dialled();
    for protocol in [&["--h1"][..], &["-m", "1"], &["-m", "8"]] {
        let mut h2load = scene.from().command("h2load");
        h2load.args(["-n", "600", "-c", "4", "--connection-active-timeout", "30"]).args(protocol);
        let said = Finished::of(h2load.arg(format!("http://{host}:{port}/"))).success();
        assert!(said.contains("600 done, 600 succeeded, 0 failed, 0 errored"), "{protocol:?}: {said}");
    }
}

fn after_requests_outbound(mode: Mode) {
    after_requests(Way::Outbound, mode);
}
in_modes!(after_requests_outbound: Ebpf);

/// A gRPC server ends its connections when they are old.
fn when_old(mode: Mode) {
    require!(@ tool("grpcio", "python"));
    let scene = started(Way::Outbound, mode, "GRPCRoute", "grpc");
    let mut command = grpc::program(&scene.net.peer.place(), &["serve-briefly", &PORT.to_string()]);
    let mut server = sidecar_tests::Program::start(&mut command);
    server.wait_for_output("listening");
    let calls = Value::from(vec![json!(["/test.One/Call", {}]); 600]);
    let said = grpc::call(&scene, calls);
    let wanted = json!(["OK", PORT.to_string()]);
    let bad: Vec<_> = said.as_array().unwrap().iter().filter(|answer| **answer != wanted).collect();
    assert!(bad.is_empty(), "{} of 600: {:?}", bad.len(), bad.first());
}
in_modes!(when_old: Ebpf);
