//! Destinations that do not answer. Captured: the proxy has accepted by the time it knows, so the client gets a reset
//! then, and the record says why. Uncaptured: exactly as without us.

use serde_json::Value;
use sidecar_tests::{
    Config, DEADLINE, Mode, PEER4, Pair, Program, Sidecar, binary, eventually, in_modes, probe,
};

use crate::at;

/// Dials `host` under the sidecar until a close of that connection with a reason was streamed, and checks each time
/// that the client got a reset.
fn is_reset(mode: Mode, host: impl Fn(&Pair) -> &'static str, connect_timeout: &str) {
    let net = Pair::new("refuse");
    let host = host(&net);
    let config = Config::new(mode).with("timeouts.connect", connect_timeout);
    let sidecar = Sidecar::start(&net.pod, &config);
    let watch =
        Program::start(net.pod.place().command(binary()).args(["connections", "--watch", "-o", "json"]));
    let reset = || {
        let seen = sidecar.probe(&["connect", host, "9000", "--read"]);
        // The reset may be there before connect() has returned.
        assert!(seen["error"] == "ECONNRESET" || seen["end"] == "ECONNRESET", "{seen}");
    };
    if mode == Mode::Iptables {
        return reset();
    }
    // More than once only when the stream was not there yet.
    eventually(DEADLINE, "a streamed close with its reason", || {
        reset();
        let streamed = watch.stdout();
        let events = streamed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.into_iter().find(|event| tells_why(event, &at(host, 9000)))
    });
}

/// Whether the connection of an event, at whatever depth, was meant for `destination` and has a reason to be closed.
fn tells_why(event: &Value, destination: &str) -> bool {
    let here = event["originalDestination"] == destination
        && event["closeReason"].as_str().is_some_and(|reason| !reason.is_empty());
    here || event.as_object().is_some_and(|fields| fields.values().any(|field| tells_why(field, destination)))
}

fn refused(mode: Mode) {
    is_reset(mode, |_| PEER4, "5s");
}
in_modes!(refused: Ebpf, Iptables);

fn unreachable(mode: Mode) {
    is_reset(mode, Pair::absent_address, "10s");
}
in_modes!(unreachable: Ebpf, Iptables);

fn swallowed(mode: Mode) {
    is_reset(mode, Pair::swallowing_address, "200ms");
}
in_modes!(swallowed: Ebpf, Iptables);

fn uncaptured(mode: Mode) {
    let net = Pair::new("uncaptured");
    let hosts = [PEER4, net.absent_address(), net.swallowing_address()];
    let config = Config::new(mode).with("interception.outbound.excludeCIDRs", ["10.7.0.0/24"]);
    let sidecar = Sidecar::start(&net.pod, &config);
    for (host, error) in hosts.into_iter().zip(["ECONNREFUSED", "EHOSTUNREACH", "TIMEOUT"]) {
        // Long enough for the kernel to give up an address that nobody has.
        let timeout = if error == "TIMEOUT" { "0.5" } else { "10" };
        let args = ["connect", host, "9000", "--timeout", timeout];
        assert_eq!(sidecar.probe(&args)["error"], error, "{host} excluded");
        assert_eq!(probe(&net.pod.place(), &args)["error"], error, "{host} outside");
    }
}
in_modes!(uncaptured: Ebpf, Iptables);
