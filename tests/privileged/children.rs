//! Who is under the sidecar: all descendants of CMD, and nobody else.

use sidecar_tests::{Config, Kind, Mode, PEER4, Pair, Sidecar, in_modes, probe, serve};

use crate::captured;

fn descendants(mode: Mode) {
    let net = Pair::new("descendants");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let seen = sidecar.probe(&["children", PEER4, "9000"]);
    assert!(captured(&seen["forked"]), "{seen}");
    assert!(captured(&seen["executed"]), "{seen}");
}
in_modes!(descendants: Ebpf, Iptables);

fn outsiders(mode: Mode) {
    let net = Pair::new("outsiders");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let dial = ["connect", PEER4, "9000", "--read"];
    assert!(captured(&sidecar.probe(&dial)), "the sidecar works");
    assert!(!captured(&probe(&net.pod.place(), &dial)));
}
in_modes!(outsiders: Ebpf, Iptables);
