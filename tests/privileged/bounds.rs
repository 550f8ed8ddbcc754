//! What happens at `limits.maxConnections`.

use serde_json::{Value, json};
use sidecar_tests::{
    Config, DEADLINE, Kind, Mode, PEER4, POD4, Pair, Probe, Program, Sidecar, binary, eventually, in_modes,
    probe, serve,
};

use crate::{at, captured};

/// Holds as many connections as there is room for, then dials once more under the sidecar.
fn one_more(mode: Mode, on_proxy_down: &str, check: impl Fn(Value)) {
    let net = Pair::new("full");
    let _echo = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9000");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9001");
    let config =
        Config::new(mode).with("limits.maxConnections", 5).with("interception.onProxyDown", on_proxy_down);
    let sidecar = Sidecar::start(&net.pod, &config);
    let dial = ["connect", PEER4, "9001", "--read"];
    let held = sidecar.hold(&["many", PEER4, "9000", "5"]);
    assert_eq!(sidecar.metric("sidecar_bpf_records_full_total"), 0);
    check(sidecar.probe(&dial));
    assert_eq!(sidecar.metric("sidecar_bpf_records_full_total"), 1);
    let known = sidecar.connections();
    assert!(known.len() == 5 && known.iter().all(|one| one.is("outbound", &at(PEER4, 9000))), "{known:?}");
    assert_eq!(held.finish()["echoed"], 10);
    eventually(DEADLINE, "room for the next", || {
        let seen = sidecar.probe(&dial);
        (seen["error"].is_null() && captured(&seen)).then_some(())
    });
}

fn open(mode: Mode) {
    one_more(mode, "open", |seen| assert!(!captured(&seen), "{seen}"));
}
in_modes!(open: Ebpf);

fn closed(mode: Mode) {
    one_more(mode, "closed", |seen| assert_eq!(seen["error"], "ECONNREFUSED"));
}
in_modes!(closed: Ebpf);

/// What comes in beyond it is reset, and the stream says why.
fn inbound(mode: Mode) {
    let net = Pair::new("limit");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode).with("limits.maxConnections", 2));
    let _server = serve(&sidecar.place(), Kind::Peername, "0.0.0.0:9000");
    let dial = ["connect", POD4, "9000", "--read"];
    let held = [(); 2].map(|()| Probe::hold(&net.peer.place(), &dial));
    let mut watch = net.pod.place().command(binary());
    let watch =
        Program::start(watch.args(["connections", "--watch", "-o", "json", "--instance", sidecar.name()]));
    // More than once only when the stream was not there yet.
    eventually(DEADLINE, "a streamed close for want of room", || {
        let seen = probe(&net.peer.place(), &dial);
        assert!(seen["error"] == "ECONNRESET" || seen["end"] == "ECONNRESET", "{seen}");
        let streamed = watch.stdout();
        let mut events = streamed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.find(|event| event["event"] == "close" && event["closeReason"] == "limitReached")
    });
    drop(held);
    eventually(DEADLINE, "room for the next", || {
        (probe(&net.peer.place(), &dial)["end"] == json!(null)).then_some(())
    });
}
in_modes!(inbound: Ebpf, Iptables);
