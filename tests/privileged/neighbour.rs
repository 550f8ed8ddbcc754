//! A second service in the same network namespace, outside the armed cgroup: untouched in both directions.

use sidecar_tests::{Config, Kind, Mode, PEER4, POD4, Pair, Probe, Sidecar, in_modes, probe, serve};

use crate::{at, captured};

fn inbound(mode: Mode) {
    let net = Pair::new("neighbour-in");
    // One was there before the sidecar, one comes later.
    let _early = serve(&net.pod.place(), Kind::Peername, "0.0.0.0:9001");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _late = serve(&net.pod.place(), Kind::Peername, "0.0.0.0:9002");
    let _own = serve(&sidecar.place(), Kind::Peername, "0.0.0.0:9000");
    let held = ["9000", "9001", "9002"]
        .map(|port| Probe::hold(&net.peer.place(), &["connect", POD4, port, "--read"]));
    for probe in &held {
        assert_eq!(probe.seen()["reply"]["accept"], probe.seen()["sockname"]);
    }
    sidecar.connection("inbound", &at(POD4, 9000));
    assert_eq!(sidecar.connections().len(), 1, "{:?}", sidecar.connections());
}
in_modes!(inbound: Ebpf);

fn outbound(mode: Mode) {
    let net = Pair::new("neighbour-out");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let dial = ["connect", PEER4, "9000", "--read"];
    let early = Probe::hold(&net.pod.place(), &dial);
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    assert!(captured(&sidecar.probe(&dial)), "the sidecar works");
    assert!(!captured(early.seen()));
    assert!(!captured(&probe(&net.pod.place(), &dial)));
}
in_modes!(outbound: Ebpf, Iptables);
