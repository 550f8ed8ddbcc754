//! Thousands of connections whose ends do everything that a proxy or the bypass could get wrong (`torture/`), all of
//! them captured at the client and served under the sidecar: both hops have a program at one end.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use sidecar_tests::{
    Config, DEADLINE, Mode, Netns, Place, Program, Sidecar, eventually, in_modes, require, torture,
};

/// How long it may take until the last connection has ended, one that hangs included.
const TAIL: Duration = Duration::from_secs(90);

/// The torture program at `place`.
fn start(place: &Place, args: &[&str]) -> Program {
    Program::start(place.command(env!("CARGO_BIN_EXE_torture")).arg("run").args(args))
}

/// Past libtest's capture: whoever waits for hours wants to see how far it is.
fn say(what: impl Display) {
    let _ = write!(std::io::stderr(), "{what}");
}

fn every_byte(mode: Mode) {
    let (seconds, seed, bypass) = torture(20, 1, "full");
    let net = Netns::new("torture");
    // Each connection leaves two ports in TIME_WAIT for a minute.
    net.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
    let config = Config::new(mode).bypass(&bypass).with("interception.outbound.captureLoopback", true);
    let sidecar = Sidecar::start(&net, &config);
    let mut program =
        start(&sidecar.place(), &["--seconds", &seconds.to_string(), "--seed", &seed.to_string()]);
    let mut said = 0;
    eventually(Duration::from_secs(seconds) + TAIL, "the end of the torture", || {
        let text = program.stderr();
        say(&text[said..]);
        said = text.len();
        program.has_ended().then_some(())
    });
    let finished = program.wait();
    let metrics = sidecar.ask("metrics", "/metrics", &[]).success();
    let counted = |line: &&str| {
        let bytes = ["sidecar_tcp_sent_bytes_total", "sidecar_tcp_received_bytes_total"];
        let bypass = ["sidecar_bpf_redirected", "sidecar_bpf_fallback", "sidecar_bpf_captured"];
        bytes.iter().chain(&bypass).any(|name| line.starts_with(name))
    };
    let counted: Vec<_> = metrics.lines().filter(counted).collect();
    let report = format!("bypass {bypass}: {}\n{}\n", finished.stdout.trim(), counted.join("\n"));
    say(&report);
    assert!(finished.status.success(), "{report}{}", finished.stderr);
    let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
    let connections = summary["connections"].as_u64().unwrap();
    assert!(connections > 10 * seconds, "too few to mean something: {report}");
    let captured = sidecar.metric("sidecar_bpf_captured_outbound_total");
    assert!(captured >= connections, "not all were captured: {captured} of {report}");
}
in_modes!(every_byte: Ebpf);

/// The torture test itself fails when it should, and says where.
#[test]
fn faults_are_found() {
    require!(root);
    let net = Netns::new("faults");
    for (kind, said) in [
        ("flip", "a byte was changed"),
        ("drop", "100 bytes are lost, or come later"),
        ("repeat", "100 bytes are repeated, or come late"),
        ("reorder", "100 bytes are lost, or come later"),
        ("stall", "nothing moved for 5s"),
    ] {
        let mut program = start(&net.place(), &["--connections", "48", "--patience", "5", "--fault", kind]);
        let finished = program.wait_for(3 * DEADLINE);
        assert_eq!(finished.status.code(), Some(1), "{kind}: {finished:?}");
        let found = |line: &str| line.contains("server (") && line.contains(said);
        assert!(finished.stderr.lines().any(found), "{kind}: {}", finished.stderr);
    }
}
