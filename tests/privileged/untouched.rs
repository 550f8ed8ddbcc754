//! What is no TCP is none of our business.

use sidecar_tests::{Config, Kind, Mode, PEER4, PEER6, Pair, Sidecar, in_modes, probe, serve};

fn datagrams(mode: Mode) {
    let net = Pair::new("datagrams");
    let _v4 = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9000");
    let _v6 = serve(&net.peer.place(), Kind::Echo, "[::]:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    for host in [PEER4, PEER6] {
        let outside = probe(&net.pod.place(), &["udp", host, "9000"]);
        assert_eq!(sidecar.probe(&["udp", host, "9000"]), outside);
    }
}
in_modes!(datagrams: Ebpf, Iptables);

fn unix_sockets(mode: Mode) {
    let net = Pair::new("unix");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    assert_eq!(sidecar.probe(&["unix"])["reply"], "ping");
    assert!(sidecar.connections().is_empty());
}
in_modes!(unix_sockets: Ebpf, Iptables);
