//! Thousands of connections whose ends do everything that a proxy or the bypass could get wrong (`torture/`).

use std::fmt::Display;
use std::io::Write;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use sidecar_tests::{
    Config, DEADLINE, Finished, Mode, Mounts, Netns, POD4, Pair, Place, Program, Sidecar, eventually,
    in_modes, require, torture,
};

use crate::at;

/// How long it may take until the last connection has ended, one that hangs included.
const TAIL: Duration = Duration::from_secs(90);

/// What the environment asks for.
struct Wish {
    seconds: u64,
    seed: String,
    bypass: String,
}

impl Wish {
    fn read() -> Self {
        let (seconds, seed, bypass) = torture(20, 1, "full");
        Self { seconds, seed: seed.to_string(), bypass }
    }
}

/// The torture program at `place`.
fn start(place: &Place, args: &[&str]) -> Program {
    Program::start(place.command(env!("CARGO_BIN_EXE_torture")).args(args))
}

/// Past libtest's capture: whoever waits for hours wants to see how far it is.
fn say(what: impl Display) {
    let _ = write!(std::io::stderr(), "{what}");
}

/// Runs the clients at `place` to their end.
fn run(place: &Place, wish: &Wish, args: &[&str]) -> Finished {
    let wished = ["run", "--seconds", &wish.seconds.to_string(), "--seed", &wish.seed];
    let mut program = start(place, &[&wished, args].concat());
    let mut said = 0;
    eventually(Duration::from_secs(wish.seconds) + TAIL, "the end of the torture", || {
        let text = program.stderr();
        say(&text[said..]);
        said = text.len();
        program.has_ended().then_some(())
    });
    program.wait()
}

/// Sees that nothing failed, and that all connections went through the proxy.
fn judge(sidecar: &Sidecar, wish: &Wish, direction: &str, finished: &Finished) {
    let metrics = sidecar.ask("metrics", "/metrics", &[]).success();
    let counted = |line: &&str| {
        let bytes = ["sidecar_tcp_sent_bytes_total", "sidecar_tcp_received_bytes_total"];
        let bypass = [
            "sidecar_bpf_redirected",
            "sidecar_bpf_fallback",
            "sidecar_bpf_captured",
            "sidecar_bpf_repeated",
        ];
        bytes.iter().chain(&bypass).any(|name| line.starts_with(name))
    };
    let counted: Vec<_> = metrics.lines().filter(counted).collect();
    let summary = finished.stdout.trim();
    let report = format!("{direction}, bypass {}: {summary}\n{}\n", wish.bypass, counted.join("\n"));
    say(&report);
    assert!(finished.status.success(), "{report}{}", finished.stderr);
    let summary: Value = serde_json::from_str(summary).unwrap();
    let connections = summary["connections"].as_u64().unwrap();
    assert!(connections > 5 * wish.seconds, "too few to mean something: {report}");
    let captured = sidecar.metric(&format!("sidecar_bpf_captured_{direction}_total"));
    assert!(captured >= connections, "not all were captured: {captured} of {report}");
}

/// Captured at the client and served under the same sidecar: both hops have a program at one end.
fn every_byte_outbound(mode: Mode) {
    let wish = Wish::read();
    let net = Netns::new("torture");
    // Each connection leaves two ports in TIME_WAIT for a minute.
    net.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
    let config = Config::new(mode).bypass(&wish.bypass).with("interception.outbound.captureLoopback", true);
    let sidecar = Sidecar::start(&net, &config);
    // Programs that earn the bypass beside others that lose it: each kind at a port of its own.
    let place = sidecar.place();
    let (place, wish) = (&place, &wish);
    thread::scope(|scope| {
        let wild = scope.spawn(move || run(place, wish, &[]));
        let finished = run(place, wish, &["--event-driven"]);
        judge(&sidecar, wish, "outbound", &finished);
        judge(&sidecar, wish, "outbound", &wild.join().unwrap());
    });
    assert_both_paths(&sidecar, wish);
}
in_modes!(every_byte_outbound: Ebpf);

/// From clients elsewhere to a server under the sidecar.
fn every_byte_inbound(mode: Mode) {
    let wish = Wish::read();
    let net = Pair::new("torture");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode).bypass(&wish.bypass));
    to_a_server(&sidecar, &net.peer.place(), &wish);
    assert_both_paths(&sidecar, &wish);
}

/// From clients at this place to servers under a sidecar at [`POD4`], of both kinds at once.
fn to_a_server(sidecar: &Sidecar, clients: &Place, wish: &Wish) {
    let serve = |port: u16, kind: &[&str]| {
        let address = at(POD4, port);
        let args = [&["serve", "--seed", &wish.seed, "--listen", &address], kind].concat();
        let mut server = start(&sidecar.place(), &args);
        server.wait_for_output(&format!("{port}\n"));
        (address, server)
    };
    let serve_and_run = |port: u16, kind: &[&str]| {
        let (address, mut server) = serve(port, kind);
        let finished = run(clients, wish, &[&["--server", &address], kind].concat());
        judge(sidecar, wish, "inbound", &finished);
        server.close_stdin();
        let ended = server.wait_for(TAIL);
        let seen: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(seen["failed"], 0, "{seen:#}");
    };
    thread::scope(|scope| {
        scope.spawn(|| serve_and_run(9000, &[]));
        serve_and_run(9001, &["--event-driven"]);
    });
}

/// From a Pod to another, each with its own proxy: three hops, of which the one between the proxies has no program at either end.
fn every_byte_between_pods(mode: Mode) {
    let wish = Wish::read();
    let (net, node) = (Pair::new("torture"), Mounts::with_bpffs());
    // Each connection leaves a port in TIME_WAIT for a minute.
    net.peer.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
    let config = Config::new(mode).bypass(&wish.bypass).with("interception.bypassSameNode", true);
    let [server, client] =
        [&net.pod, &net.peer].map(|netns| Sidecar::start_at(&netns.place().in_mounts(&node), netns, &config));
    to_a_server(&server, &client.place(), &wish);
    for sidecar in [&client, &server] {
        assert_both_paths(sidecar, &wish);
        let metrics = sidecar.ask("metrics", "/metrics", &[]).success();
        let counted: Vec<_> = metrics.lines().filter(|line| line.starts_with("sidecar_same_node")).collect();
        say(format!("{}\n", counted.join("\n")));
        let sent = sidecar.metric("sidecar_same_node_messages_total");
        assert_eq!(sent > 1000, wish.bypass != "off", "{sent}");
    }
}
in_modes!(every_byte_between_pods: Ebpf);

/// Bytes went either way, and the path was switched back and forth.
fn assert_both_paths(sidecar: &Sidecar, wish: &Wish) {
    let redirected = sidecar.metric("sidecar_bpf_redirected_messages_total");
    let by_tcp: Vec<_> = ["unacknowledged", "full"]
        .iter()
        .map(|reason| sidecar.metric(&format!("sidecar_bpf_fallback_{reason}_total")))
        .collect();
    match wish.bypass.as_str() {
        "off" => assert_eq!(redirected, 0),
        _ => assert!(redirected > 1000 && by_tcp.iter().all(|n| *n > 10), "{redirected} {by_tcp:?}"),
    }
}
in_modes!(every_byte_inbound: Ebpf);

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
        let args = ["run", "--connections", "33", "--patience", "5", "--fault", kind];
        let finished = start(&net.place(), &args).wait_for(3 * DEADLINE);
        assert_eq!(finished.status.code(), Some(1), "{kind}: {finished:?}");
        let found = |line: &str| line.starts_with("FAILED connection") && line.contains(said);
        assert!(finished.stderr.lines().any(found), "{kind}: {}", finished.stderr);
    }
}
