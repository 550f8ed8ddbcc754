//! Addresses that mean something on one link only: left alone, since a proxy's own socket would not know the link.

use serde_json::Value;
use sidecar_tests::{Config, Kind, Mode, PEER6, POD6, Pair, Sidecar, in_modes, probe, serve};

use crate::{at, captured};

const POD: &str = "fe80::1";
const PEER: &str = "fe80::2";

/// The name of a link-local address on the cable, from either end.
fn on_the_cable(address: &str) -> String {
    format!("{address}%eth0")
}

fn pair() -> Pair {
    let net = Pair::new("link-local");
    for (netns, address) in [(&net.pod, POD), (&net.peer, PEER)] {
        netns.ip(&["address", "add", &format!("{address}/64"), "dev", "eth0", "nodad"]);
    }
    net
}

fn outbound(mode: Mode) {
    let net = pair();
    let _server = serve(&net.peer.place(), Kind::Peername, "[::]:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let dial = |host: &str| sidecar.probe(&["connect", host, "9000", "--read"]);
    assert!(captured(&dial(PEER6)), "the sidecar works");
    let seen = dial(&on_the_cable(PEER));
    assert_eq!((&seen["peername"], &seen["error"]), (&at(PEER, 9000).into(), &Value::Null));
    assert!(!captured(&seen), "{seen}");
}
in_modes!(outbound: Ebpf);

fn inbound(mode: Mode) {
    let net = pair();
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _server = serve(&sidecar.place(), Kind::Peername, "[::]:9000");
    let steered = || sidecar.metric("sidecar_bpf_captured_inbound_total");
    let reached = |args: &[&str]| {
        let seen = probe(&net.peer.place(), &[&["connect"], args, &["9000", "--read"]].concat());
        assert_eq!(seen["reply"]["accept"], seen["sockname"], "{seen}");
    };
    reached(&[POD6]);
    assert_eq!(steered(), 1, "the sidecar works");
    reached(&[&on_the_cable(POD)]);
    assert_eq!(steered(), 1, "a link-local destination");
    reached(&["--source", &on_the_cable(PEER), POD6]);
    assert_eq!(steered(), 1, "a link-local client");
}
in_modes!(inbound: Ebpf);
