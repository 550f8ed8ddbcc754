//! A server that answers before it has read all, and closes: its answer arrives as it would without a proxy.

use serde_json::{Value, json};
use sidecar_tests::{Config, Kind, Mode, PEER4, Pair, Place, Sidecar, in_modes, probe, serve};

/// 200 KB sent, 10 bytes read, and an answer of this length, so often.
fn ask(place: &Place, length: u64, times: u64) -> Value {
    probe(place, &["early", PEER4, "9000", &length.to_string(), &times.to_string()])
}

/// A close with unread bytes is a reset, which may take back the end of a long answer, with or without a proxy.
fn arrives(mode: Mode) {
    let net = Pair::new("early");
    let _server = serve(&net.peer.place(), Kind::Hasty, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let received = |seen: &Value| seen["received"].as_u64().unwrap();
    for length in [20_000, 60_000, 3_000_000] {
        let (direct, proxied) = (ask(&net.pod.place(), length, 20), ask(&sidecar.place(), length, 20));
        assert!(received(&direct) > 10 * length, "{direct}");
        assert!(received(&proxied) * 10 >= received(&direct) * 9, "{proxied}, but without a proxy {direct}");
    }
}
in_modes!(arrives: Ebpf, Iptables);

/// The client learns of the end when the server has made it.
fn ends_at_once(mode: Mode) {
    let net = Pair::new("end");
    let _server = serve(&net.peer.place(), Kind::Hasty, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let seen = ask(&sidecar.place(), 3_000_000, 5);
    assert!(seen["elapsedMs"].as_u64().unwrap() < 2500, "each kept waiting for half a second: {seen}");
}
in_modes!(ends_at_once: Ebpf, Iptables);

/// An answer that breaks off does not look complete.
fn a_reset_stays_a_reset(mode: Mode) {
    let net = Pair::new("cutoff");
    let _server = serve(&net.peer.place(), Kind::Cutoff, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let seen = probe(&sidecar.place(), &["early", PEER4, "9000", "1000", "10", "--stuffed"]);
    assert_eq!(seen["ends"], json!({"ECONNRESET": 10}), "{seen}");
    assert_eq!(seen["whole"], 10, "what came before the reset arrives: {seen}");
}
in_modes!(a_reset_stays_a_reset: Ebpf, Iptables);
