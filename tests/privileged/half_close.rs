//! One side ends its direction and goes on receiving: the other direction must stay open, either way round.

use sidecar_tests::{Config, Kind, Mode, PEER4, POD4, Pair, Place, Sidecar, in_modes, probe, serve};

/// `client` half-closes first towards a sink and second towards a source.
fn both_ways(servers: &Place, client: &Place, host: &str) {
    let _sink = serve(servers, Kind::Sink, "0.0.0.0:9000");
    let mut source = serve(servers, Kind::Source, "0.0.0.0:9001");
    let up = probe(client, &["upload", host, "9000", "300000"]);
    assert_eq!(up["received"], up["sent"]);
    let down = probe(client, &["download", host, "9001", "300000"]);
    assert_eq!(down["received"], down["expected"]);
    source.wait_for_output("after the half-close");
}

fn outbound(mode: Mode) {
    let net = Pair::new("half-out");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    both_ways(&net.peer.place(), &sidecar.place(), PEER4);
}
in_modes!(outbound: Ebpf, Iptables);

fn inbound(mode: Mode) {
    let net = Pair::new("half-in");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    both_ways(&sidecar.place(), &net.peer.place(), POD4);
}
in_modes!(inbound: Ebpf, Iptables);
