//! TCP fast open: connect() returns before anything is sent.

use sidecar_tests::{Config, Kind, Mode, PEER4, Pair, Sidecar, in_modes, serve};

use crate::captured;

/// More sockets than there is room for connect and close without a write: nothing is kept of them.
fn never_written(mode: Mode) {
    let net = Pair::new("fast-open");
    // Bit 0: as a client (ip-sysctl.rst).
    net.pod.sysctl("net/ipv4/tcp_fastopen", "1");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let config =
        Config::new(mode).with("limits.maxConnections", 100).with("interception.onProxyDown", "closed");
    let sidecar = Sidecar::start(&net.pod, &config);
    let seen = sidecar.probe(&["deferred", PEER4, "9000", "250"]);
    assert_eq!((&seen["connected"], &seen["waiting"]), (&250.into(), &250.into()), "{seen}");
    assert!(captured(&sidecar.probe(&["connect", PEER4, "9000", "--read"])));
    assert_eq!(sidecar.metric("sidecar_bpf_records_full_total"), 0);
}
in_modes!(never_written: Ebpf);
