//! Ways to connect.

use serde_json::json;
use sidecar_tests::{Config, Kind, Mode, PEER4, PEER6, Pair, Sidecar, in_modes, serve};

use crate::{at, captured};

fn non_blocking(mode: Mode) {
    let net = Pair::new("nonblocking");
    let _v4 = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let _v6 = serve(&net.peer.place(), Kind::Peername, "[::]:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    for host in [PEER4, PEER6] {
        let seen = sidecar.probe(&["connect", host, "9000", "--nonblocking", "--read"]);
        assert_eq!(seen["error"], json!(null));
        assert_eq!(seen["peername"], at(host, 9000));
        assert!(captured(&seen), "{seen}");
    }
}
in_modes!(non_blocking: Ebpf, Iptables);

/// First a port that is not captured and refuses, then two that are captured: the last one counts.
fn retried(mode: Mode) {
    let net = Pair::new("retried");
    let _one = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9001");
    let _two = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9002");
    let config = Config::new(mode).with("interception.outbound.excludePorts", [9000]);
    let sidecar = Sidecar::start(&net.pod, &config);
    for way in ["same", "new"] {
        let held = sidecar.hold(&["retry", way, PEER4, "9000", PEER4, "9001", PEER4, "9002"]);
        let seen = held.seen();
        assert_eq!(seen["errors"], json!(["ECONNREFUSED", null, null]), "{way} socket");
        assert_eq!(seen["peername"], at(PEER4, 9002), "{way} socket");
        assert_eq!(seen["reply"]["getsockname"], at(PEER4, 9002), "{way} socket");
        assert!(captured(seen), "{way} socket: {seen}");
        sidecar.connection("outbound", &at(PEER4, 9002));
    }
}
in_modes!(retried: Ebpf, Iptables);
