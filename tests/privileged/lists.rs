//! What is captured and what is not.

use sidecar_tests::{Config, Kind, Mode, PEER4, PEER6, POD4, Pair, Probe, Program, Sidecar, in_modes, serve};

use crate::{at, captured};

/// A second address of the peer.
const OTHER4: &str = "10.7.0.3";
const OTHER6: &str = "fd00::3";

fn peer() -> (Pair, Vec<Program>) {
    let net = Pair::new("lists");
    net.peer.ip(&["address", "add", &format!("{OTHER4}/24"), "dev", "eth0"]);
    net.peer.ip(&["address", "add", &format!("{OTHER6}/64"), "dev", "eth0", "nodad"]);
    let listen = ["0.0.0.0:9000", "[::]:9000", "0.0.0.0:9001", "[::]:9001"];
    let servers = listen.map(|address| serve(&net.peer.place(), Kind::Peername, address)).into();
    (net, servers)
}

/// Dials every destination under `config` and compares what was captured.
fn captures(net: &Pair, config: &Config, destinations: &[(&str, u16)], expected: &[(&str, u16)]) {
    let sidecar = Sidecar::start(&net.pod, config);
    let dial = |host: &str, port: u16| sidecar.probe(&["connect", host, &port.to_string(), "--read"]);
    let seen: Vec<_> =
        destinations.iter().filter(|(host, port)| captured(&dial(host, *port))).copied().collect();
    assert_eq!(seen, expected, "{}", config.text());
}

fn addresses(mode: Mode) {
    let (net, _servers) = peer();
    let destinations = [(PEER4, 9000), (OTHER4, 9000), (PEER6, 9000), (OTHER6, 9000)];
    let included =
        Config::new(mode).with("interception.outbound.includeCIDRs", ["10.7.0.2/32", "fd00::2/128"]);
    captures(&net, &included, &destinations, &[(PEER4, 9000), (PEER6, 9000)]);
    let excluded =
        Config::new(mode).with("interception.outbound.excludeCIDRs", ["10.7.0.2/31", "fd00::2/128"]);
    captures(&net, &excluded, &destinations, &[(OTHER6, 9000)]);
    // An exclusion within an inclusion.
    let both = included.with("interception.outbound.includeCIDRs", ["10.7.0.0/24", "fd00::/64"]);
    let both = both.with("interception.outbound.excludeCIDRs", ["10.7.0.3/32", "fd00::3/128"]);
    captures(&net, &both, &destinations, &[(PEER4, 9000), (PEER6, 9000)]);
}
in_modes!(addresses: Ebpf, Iptables);

fn ports(mode: Mode) {
    let (net, _servers) = peer();
    let destinations = [(PEER4, 9000), (PEER4, 9001), (PEER6, 9000), (PEER6, 9001)];
    let included = Config::new(mode).with("interception.outbound.includePorts", [9000]);
    captures(&net, &included, &destinations, &[(PEER4, 9000), (PEER6, 9000)]);
    let excluded = Config::new(mode).with("interception.outbound.excludePorts", [9000]);
    captures(&net, &excluded, &destinations, &[(PEER4, 9001), (PEER6, 9001)]);
}
in_modes!(ports: Ebpf, Iptables);

/// A service beside the application, on the same loopback.
fn loopback(mode: Mode) {
    let net = Pair::new("loopback");
    let _v4 = serve(&net.pod.place(), Kind::Peername, "127.0.0.1:9000");
    let _v6 = serve(&net.pod.place(), Kind::Peername, "[::1]:9000");
    let destinations = [("127.0.0.1", 9000), ("::1", 9000), ("::ffff:127.0.0.1", 9000)];
    captures(&net, &Config::new(mode), &destinations, &[]);
    let requested = Config::new(mode).with("interception.outbound.captureLoopback", true);
    captures(&net, &requested, &destinations, &destinations);
}
in_modes!(loopback: Ebpf, Iptables);

/// The application's own ports: which of them the proxy stands before.
fn inbound(mode: Mode) {
    let captures = |field: &str, expected: [bool; 2]| {
        let net = Pair::new("inbound-ports");
        let sidecar = Sidecar::start(&net.pod, &Config::new(mode).with(field, [9000]));
        for (port, captured) in [9000_u16, 9001].into_iter().zip(expected) {
            let _server = serve(&sidecar.place(), Kind::Peername, &at("0.0.0.0", port));
            let held = Probe::hold(&net.peer.place(), &["connect", POD4, &port.to_string(), "--read"]);
            assert!(held.seen()["reply"]["getpeername"].is_string(), "{}", held.seen());
            if captured {
                sidecar.connection("inbound", &at(POD4, port));
            } else {
                // The answer came, so there would be a record by now.
                let known = sidecar.connections();
                assert!(
                    !known.iter().any(|connection| connection.is("inbound", &at(POD4, port))),
                    "{known:?}"
                );
            }
        }
    };
    captures("interception.inbound.includePorts", [true, false]);
    captures("interception.inbound.excludePorts", [false, true]);
}
in_modes!(inbound: Ebpf, Iptables);
