//! How long a connection may be quiet.

use serde_json::Value;
use sidecar_tests::{Config, Kind, Mode, PEER4, Pair, Program, Sidecar, binary, eventually, in_modes, serve};

fn idle(mode: Mode) {
    let net = Pair::new("idle");
    let _server = serve(&net.peer.place(), Kind::Blackhole, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode).with("timeouts.idle", "300ms"));
    let mut watch = net.pod.place().command(binary());
    let watch =
        Program::start(watch.args(["connections", "--watch", "-o", "json", "--instance", sidecar.name()]));
    // More than once only when the stream was not there yet.
    eventually(sidecar_tests::DEADLINE, "a streamed close for want of traffic", || {
        let seen = sidecar.probe(&["connect", PEER4, "9000", "--say", "hello", "--read"]);
        assert_eq!(seen["end"], "ECONNRESET", "{seen}");
        assert!(seen["elapsedMs"].as_u64().unwrap() >= 300, "{seen}");
        let streamed = watch.stdout();
        let mut events = streamed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.find(|event| event["event"] == "close" && event["closeReason"] == "idleTimeout")
    });
}
in_modes!(idle: Ebpf, Iptables);

/// A receiver that takes little at a time is not idle: it gets all, though that takes longer than the timeout.
fn slow_receiver(mode: Mode) {
    let net = Pair::new("slow");
    let _server = serve(&net.peer.place(), Kind::Source, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode).with("timeouts.idle", "500ms"));
    let seen = sidecar.probe(&["trickle", PEER4, "9000", "200000"]);
    assert_eq!(seen["received"], seen["expected"], "{seen}");
    assert!(seen["elapsedMs"].as_u64().unwrap() > 1000, "as slow as is needed: {seen}");
}
in_modes!(slow_receiver: Ebpf, Iptables);
