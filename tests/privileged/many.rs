//! Many connections at once on one proxy.

use std::io::Write;

use nix::sys::resource::{Resource, getrlimit};
use serde_json::json;
use sidecar_tests::{Config, Kind, Mode, PEER4, Pair, Sidecar, in_modes, serve};

const WANTED: u64 = 10_000;

/// What a proxy needs beside its connections: listeners, maps, links, logs.
const OWN_DESCRIPTORS: u64 = 200;

/// As many as wanted, or as the limit on open files allows: the proxy needs two descriptors for each connection, and
/// the hard limit can be raised by `CAP_SYS_RESOURCE` only (getrlimit(2)).
fn possible() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let possible = (hard.saturating_sub(OWN_DESCRIPTORS) / 2).min(WANTED);
    if possible < WANTED {
        let mut stderr = std::io::stderr();
        let _ =
            writeln!(stderr, "many: {possible} of {WANTED} connections: the limit on open files is {hard}");
    }
    possible
}

fn concurrent(mode: Mode) {
    let net = Pair::new("many");
    let _server = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let count = possible();
    let held = sidecar.hold(&["many", PEER4, "9000", &count.to_string()]);
    assert_eq!(held.seen(), &json!({"open": count, "echoed": count}));
    let live = sidecar.connections();
    let destination = format!("{PEER4}:9000");
    let known = live.iter().filter(|connection| connection.is("outbound", &destination)).count();
    assert_eq!(known as u64, count);
    assert_eq!(held.finish(), json!({"open": count, "echoed": 2 * count}));
    // The proxy is as good as new after that.
    assert_eq!(sidecar.probe(&["many", PEER4, "9000", "10"]), json!({"open": 10, "echoed": 10}));
}
in_modes!(concurrent: Ebpf, Iptables);
