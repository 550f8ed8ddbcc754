//! Programs that read as enrolled sockets do not serve are kept out: hazards 5, 6 and 11.

use std::io::Write;

use sidecar_tests::{DEADLINE, POD4, Pair, Probe, Sidecar, eventually};

use super::{Hop, PORT, Run, config, redirected_in_all};
use crate::at;

/// A blocking read of an enrolled socket may answer EAGAIN (tcp_bpf_recvmsg): the program would take it for its timeout.
fn hazard_05_blocking(level: &str) {
    for far in ["blocking", "epoll"] {
        let run = Run::at(level, &["blocking", "--way", "blocking", "--far", far, "--times", "2000"]);
        run.hop().kept_out("lost", "blocking mode");
    }
}
in_levels!(hazard_05_blocking: full, auto, to_proxy);

/// The same for what the proxy sends to a server: its accepted sockets block under whatever listener.
fn hazard_05_blocking_servers(level: &str) {
    inbound(level, "blocking", "blocking mode");
}
in_levels!(hazard_05_blocking_servers: full, auto);

/// A program that turns to blocking reads is sent nothing more past TCP: it would not be woken for it rightly.
fn hazard_05_turned_to_blocking(level: &str) {
    let run = Run::at(level, &["turn", "--then", "blocking"]);
    let received = run.seen("enrolled");
    let hop = eventually(DEADLINE, "its standing to be lost", || {
        let hop = run.hop();
        (hop.0.text("bypass") == "lost").then_some(hop)
    });
    assert!(hop.0.text("bypassReason").contains("blocking mode"), "{:?}", hop.0);
    let (_, redirected) = hop.redirected();
    assert!(redirected > 0 && redirected <= received, "until then, and no longer: {received} {:?}", hop.0);
    assert!(hop.by_tcp("reader") > 0, "{:?}", hop.0);
}
in_levels!(hazard_05_turned_to_blocking: full, auto);

/// splice(2) takes from TCP's queue alone: redirected bytes would wait for ever.
fn hazard_06_splice(level: &str) {
    let run = Run::at(level, &["rounds", "--way", "splice"]);
    run.hop().kept_out("lost", "splices");
    drop(run);
    inbound(level, "splice", "splices");
}
in_levels!(hazard_06_splice: full, auto);

/// An upper-layer protocol such as kTLS encrypts in its own sendmsg(): redirected bytes would pass it by.
#[test]
fn hazard_11_ulp() {
    sidecar_tests::require!(root);
    let names = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    let run = Run::at("full", &["upper", "--name", &names]);
    let seen = run.program.seen();
    if seen["ulp"].is_null() {
        // Not a skip: no test of this machine could do it. Both ends are as any others then.
        let _ = writeln!(
            std::io::stderr(),
            "hazard_11_ulp: this kernel gives no socket a ULP: {}",
            seen["refused"]
        );
        run.hop().goes_by("full");
    } else {
        run.hop().kept_out("lost", "upper-layer protocol");
    }
}

/// A server that reads in this way, dialled from outside.
#[track_caller]
fn inbound(level: &str, way: &str, reason: &str) {
    let net = Pair::new("hazard-in");
    let sidecar = Sidecar::start(&net.pod, &config(level));
    assert_eq!(redirected_in_all(&sidecar), 0, "the self-test is no traffic");
    let _server = Probe::hold_both_ends(&sidecar.place(), &["echo", PORT, "--host", "0.0.0.0", "--way", way]);
    let talk = ["talk", PORT, "--host", POD4, "--times", "1000", "--size", "50000"];
    let _client = Probe::hold_both_ends(&net.peer.place(), &talk);
    Hop(sidecar.connection("inbound", &at(POD4, 9000))).kept_out("lost", reason);
    assert_eq!(redirected_in_all(&sidecar), 0);
}
