//! TCPRoute and TLSRoute: connections, not requests.

use crate::http::by_every_way;
use std::path::{Path, PathBuf};

use serde_json::json;
use sidecar_tests::{
    DEADLINE, Finished, Kind, Mode, Nginx, Pair, eventually, in_modes, probe, require, serve,
};

use super::super::Way;
use super::super::documents::{backend_of, route, route_for, to, weighed};
use super::super::scene::Scene;

const PORTS: [u16; 2] = [9201, 9202];

/// By weight; neither side sees anything of it but the bytes.
#[track_caller]
fn tcp(way: Way, mode: Mode) {
    let [first, second] = PORTS;
    let rules = json!([{"backendRefs": [weighed("first", 1), weighed("second", 1), weighed("never", 0)]}]);
    let documents = [
        backend_of("first", "tcp", &[first]),
        backend_of("second", "tcp", &[second]),
        backend_of("never", "tcp", &[9]),
        route("TCPRoute", "bytes", way.parent(), rules),
    ];
    let scene = Scene::start(way, mode, documents);
    let _servers = PORTS.map(|port| serve(&scene.net.peer.place(), Kind::Echo, &format!("0.0.0.0:{port}")));
    let (host, port) = way.dialled();
    let seen = probe(&scene.from(), &["echo", host, &port.to_string(), "300000"]);
    assert_eq!(seen["received"], seen["sent"], "{seen}");
    // 30 of 1 in 2: that one server gets none is less likely than one in a hundred million.
    for _ in 0..30 {
        probe(&scene.from(), &["echo", host, &port.to_string(), "10"]);
    }
    let served = |port: u16| {
        let log = std::fs::read_to_string(super::super::log_of(&scene.logs)).unwrap_or_default();
        log.matches(&format!("\"upstream\":\"{}\"", crate::at(sidecar_tests::PEER4, port))).count()
    };
    eventually(DEADLINE, "both servers to be used", || {
        (served(first) > 0 && served(second) > 0).then_some(())
    });
    eventually(DEADLINE, "all connections in the log", || {
        (served(first) + served(second) == 31).then_some(())
    });
}
by_every_way!(tcp: Ebpf, Iptables);

/// A key and a certificate of its own for this name.
fn certificate(net: &Pair, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (key, certificate) = (directory.join(format!("{name}.key")), directory.join(format!("{name}.pem")));
    let mut openssl = net.peer.place().command("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]);
    openssl.arg(format!("/CN={name}")).arg("-addext").arg(format!("subjectAltName=DNS:{name}"));
    Finished::of(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate)).success();
    (key, certificate)
}

/// By the name that the client asks for; what is in it stays between the two.
#[track_caller]
fn tls(way: Way, mode: Mode) {
    require!(program "nginx");
    require!(program "openssl");
    let [first, second] = PORTS;
    let all = |name: &str, hosts: &[&str]| {
        route_for(hosts, route("TLSRoute", name, way.parent(), json!([{"backendRefs": [to(name)]}])))
    };
    let documents = [
        backend_of("first", "tcp", &[first]),
        backend_of("second", "tcp", &[second]),
        all("first", &["a.example.com"]),
        all("second", &["*.example.com"]),
    ];
    let scene = Scene::start(way, mode, documents);
    let hosts = [("a.example.com", first), ("b.example.com", second)];
    let certificates = hosts.map(|(name, _)| certificate(&scene.net, scene.logs.path(), name));
    let server = |(index, (name, port)): (usize, &(&str, u16))| {
        let (key, certificate) = &certificates[index];
        format!(
            "server {{ listen 0.0.0.0:{port} ssl http2; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};
             return 200 '{name} $ssl_server_name $server_protocol $ssl_protocol'; }}",
            certificate.display(),
            key.display()
        )
    };
    let servers: String = hosts.iter().enumerate().map(server).collect();
    let _nginx = Nginx::serving(&scene.net.peer, &scene.net.peer.place(), first, &servers);
    let (host, port) = way.dialled();
    let curl = |name: &str, trusted: &Path| {
        let mut curl = scene.from().command("curl");
        curl.args(["-sS", "--fail", "--max-time", "10", "--cacert"]).arg(trusted);
        curl.args(["--connect-to", &format!("::{host}:{port}"), &format!("https://{name}/")]);
        Finished::of(&mut curl)
    };
    for ((name, _), (_, trusted)) in hosts.iter().zip(&certificates) {
        assert_eq!(curl(name, trusted).success(), format!("{name} {name} HTTP/2.0 TLSv1.3"));
    }
    // Nobody serves this name: the connection ends before anything is said.
    let lost = curl("c.example.org", &certificates[0].1);
    assert!(!lost.status.success() && !lost.stderr.contains("certificate"), "{lost:?}");
    eventually(DEADLINE, "the route in the log", || {
        let log = std::fs::read_to_string(super::super::log_of(&scene.logs)).ok()?;
        log.contains("\"policy\":\"default/first\"").then_some(())
    });
}
by_every_way!(tls: Ebpf, Iptables);

/// Without TLS there is no name, and no route.
fn not_tls(mode: Mode) {
    let way = Way::Listener;
    let rules = json!([{"backendRefs": [to("first")]}]);
    let documents = [
        backend_of("first", "tcp", &PORTS),
        route_for(&["a.example.com"], route("TLSRoute", "first", way.parent(), rules)),
    ];
    let scene = Scene::start(way, mode, documents);
    let _server = serve(&scene.net.peer.place(), Kind::Banner, &format!("0.0.0.0:{}", PORTS[0]));
    let (host, port) = way.dialled();
    let seen = probe(&scene.from(), &["connect", host, &port.to_string(), "--read", "--timeout", "3"]);
    assert!(seen["reply"]["text"].is_null(), "{seen}");
}
in_modes!(not_tls: Ebpf);
