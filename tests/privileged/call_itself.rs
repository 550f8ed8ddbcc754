//! A Pod that calls itself, and connections that lead back to the proxy.

use sidecar_tests::{Config, Kind, Mode, POD4, Pair, Sidecar, in_modes, serve};

use crate::{at, captured};

fn own_address(mode: Mode) {
    let net = Pair::new("itself");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _server = serve(&sidecar.place(), Kind::Peername, "0.0.0.0:9000");
    let seen = sidecar.probe(&["connect", POD4, "9000", "--read"]);
    assert_eq!(seen["peername"], at(POD4, 9000));
    assert_eq!(seen["reply"]["getsockname"], at(POD4, 9000));
}
in_modes!(own_address: Ebpf);

fn loopback(mode: Mode) {
    let net = Pair::new("loopback");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _server = serve(&sidecar.place(), Kind::Peername, "0.0.0.0:9000");
    let seen = sidecar.probe(&["connect", "127.0.0.1", "9000", "--read"]);
    assert_eq!(seen["peername"], at("127.0.0.1", 9000));
    assert!(!captured(&seen), "{seen}");
}
in_modes!(loopback: Ebpf, Iptables);

fn captured_loopback(mode: Mode) {
    let net = Pair::new("captured-loopback");
    let config = Config::new(mode).with("interception.outbound.captureLoopback", true);
    let sidecar = Sidecar::start(&net.pod, &config);
    let _server = serve(&sidecar.place(), Kind::Peername, "0.0.0.0:9000");
    for host in ["127.0.0.1", POD4] {
        let seen = sidecar.probe(&["connect", host, "9000", "--read"]);
        assert_eq!(seen["peername"], at(host, 9000));
        assert_eq!(seen["reply"]["getsockname"], at(host, 9000));
    }
}
in_modes!(captured_loopback: Ebpf);

/// A program dials the proxy's own port: there is nothing behind it but the proxy.
fn the_proxy(mode: Mode) {
    let net = Pair::new("loop");
    let config = Config::new(mode)
        .with("interception.outbound.captureLoopback", true)
        .with("ports.outbound", 15001)
        .with("ports.inbound", 15006);
    let sidecar = Sidecar::start(&net.pod, &config);
    for (host, port) in [("127.0.0.1", "15001"), (POD4, "15001"), ("127.0.0.1", "15006"), (POD4, "15006")] {
        let seen = sidecar.probe(&["connect", host, port, "--read"]);
        let ended = [&seen["error"], &seen["end"]].into_iter().find_map(|how| how.as_str());
        let ended = ended.unwrap_or_else(|| panic!("somebody answered at {host}:{port}: {seen}"));
        assert!(["ECONNREFUSED", "ECONNRESET", "EOF"].contains(&ended), "{host}:{port}: {seen}");
        let live = sidecar.connections();
        assert!(live.len() <= 2, "it goes in circles: {live:?}");
    }
}
in_modes!(the_proxy: Ebpf, Iptables);
