//! Order, backpressure and counts: hazards 1 to 4, 12 to 15.

use sidecar_tests::{DEADLINE, Netns, Sidecar, eventually};

use super::{Hop, PORT, Run, by_path, config, number, program, redirected_in_all};

/// A reader takes what was redirected before what came by TCP: without the rule for switching paths, bytes of bursts that
/// went both ways come in another order.
fn hazard_01_reordering(level: &str) {
    for seed in ["1", "2", "3"] {
        let run = Run::at(level, &["mixed", "--times", "600", "--seed", seed]);
        let hop = run.hop();
        hop.goes_by(level);
        if level != "off" {
            assert_eq!(hop.0.text("path"), "mixed", "the path switches: {:?}", hop.0);
        }
    }
}
in_levels!(hazard_01_reordering: full, auto, to_proxy, off);

/// Bytes that came by TCP before the connection was enrolled are read first, and once: otherwise the first redirected
/// message would overtake them, or a buffer that was read in part would come again.
fn hazard_02_before_enrolment(level: &str) {
    let run = Run::at(level, &["unready"]);
    run.hop().goes_by(level);
}
in_levels!(hazard_02_before_enrolment: full, auto, to_proxy);

/// A reader that stops holds its writer: without a bound, redirected bytes pile up in the kernel's memory until it is
/// full.
fn hazard_03_backpressure(level: &str) {
    let run = Run::at(level, &["stall", "--size", "67108864"]);
    let hop = run.hop();
    hop.goes_by(level);
    assert!(run.seen("toNear") > 0 && run.seen("toFar") > 0);
    if level != "to-proxy" {
        assert!(hop.by_tcp("full") > 0, "the buffer's end was met: {:?}", hop.0);
    }
    // The way back to the bypass is found when all is read.
    let (sent, received) = hop.redirected();
    let Run { program, sidecar, netns: _netns } = run;
    program.finish();
    assert!(by_path(&sidecar, "sent", "bypass") > sent);
    assert!(by_path(&sidecar, "received", "bypass") > received || level == "to-proxy");
}
in_levels!(hazard_03_backpressure: full, auto, to_proxy);

/// FIONREAD counts what waits, whichever way it came: where it answers 0 or a part, programs that size their reads by it
/// hang or truncate.
fn hazard_04_fionread(level: &str) {
    let run = Run::at(level, &["fionread", "--times", "20"]);
    let hop = run.hop();
    hop.goes_by(level);
    assert_eq!(hop.0.text("path"), "mixed", "some of it came by TCP: {:?}", hop.0);
}
in_levels!(hazard_04_fionread: full, auto, to_proxy);

/// Edges of epoll come for redirected bytes: where one is missed, the program waits for ever.
fn hazard_04_epoll_edges(level: &str) {
    let run = Run::at(level, &["mixed", "--times", "400", "--way", "edge", "--far", "edge"]);
    run.hop().goes_by(level);
}
in_levels!(hazard_04_epoll_edges: full, auto);

/// TCP may bring bytes again, in one buffer with new ones: a retransmission that reaches back over what was received. A
/// socket's own read leaves them out; the kernel's way into the queue of redirected bytes does not (`tcp_read_skb`).
fn hazard_15_repeated_bytes(level: &str) {
    let run = Run::at(level, &["repeated"]);
    let repeated = run.sidecar.metric("sidecar_bpf_repeated_bytes_total");
    run.hop().goes_by(level);
    if level == "off" {
        assert_eq!(repeated, 0, "no queue of redirected bytes");
    } else {
        // `auto` leaves out the server's hop, whose program it does not know.
        assert!(repeated >= run.seen("repeated") / 2, "{repeated}");
    }
    assert_eq!(run.sidecar.metric("sidecar_bpf_broken_connections_total"), 0);
    let Run { program, sidecar: _sidecar, netns: _netns } = run;
    program.finish();
}
in_levels!(hazard_15_repeated_bytes: full, auto, to_proxy, off);

/// Both paths are counted, once each: redirected bytes are seen by no counter of TCP's.
#[test]
fn hazard_12_counted() {
    sidecar_tests::require!(root);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let config =
        config("full").with("accessLog.format", "json").with("accessLog.path", log.to_str().unwrap());
    let run = Run::with(&config, &["mixed", "--times", "300"]);
    run.hop().goes_by("full");
    let said = (run.seen("sent"), run.seen("received"));
    let whole = |hop: &Hop| (hop.0.number("bytesSent"), hop.0.number("bytesReceived"));
    let counted = eventually(DEADLINE, "all bytes to be counted", || {
        let hop = run.hop();
        (whole(&hop) == said).then_some(hop)
    });
    let redirected = counted.redirected();
    assert!(redirected.0 < said.0 && redirected.1 < said.1, "the first went by TCP: {:?}", counted.0);

    let Run { program, sidecar, netns: _netns } = run;
    program.finish();
    eventually(DEADLINE, "the connection to end", || sidecar.connections().is_empty().then_some(()));
    for (way, all, redirected) in [("sent", said.0, redirected.0), ("received", said.1, redirected.1)] {
        let by_path = ["bypass", "tcp"].map(|path| by_path(&sidecar, way, path));
        assert_eq!(by_path, [redirected, all - redirected], "{way}");
    }
    // The kernel half counts the server's hop as well.
    assert!(redirected_in_all(&sidecar) > redirected.0 + redirected.1);

    let line = eventually(DEADLINE, "the line of the access log", || {
        std::fs::read_to_string(&log).ok()?.lines().next().map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let logged = (number(&line, "bytesSent"), number(&line, "bytesReceived"));
    assert_eq!(logged, said, "{line}");
    let logged = (number(&line, "bypassBytesSent"), number(&line, "bypassBytesReceived"));
    assert_eq!(logged, redirected, "{line}");
}

/// Messages of one byte: many small records where a buffer is sized by whole pages, and slower redirected than by TCP, so
/// that a rule can leave them to TCP.
#[test]
fn hazard_13_one_byte_writes() {
    sidecar_tests::require!(root);
    let talk = ["rounds", "--size", "1", "--times", "5000"];
    let run = Run::at("full", &talk);
    run.hop().goes_by("full");
    drop(run);
    let rule = serde_json::json!([{"ports": [PORT.parse::<u16>().unwrap()], "bypass": "off"}]);
    let run = Run::with(&config("full").with("interception.bypassRules", rule), &talk);
    run.hop().kept_out("off", "by configuration");
}

/// The same bytes by the same paths, whatever congestion control programs and the proxy use: the rule for switching asks
/// TCP what is acknowledged, and how soon that is is theirs to decide.
#[test]
fn hazard_14_congestion_control() {
    sidecar_tests::require!(root);
    let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let available = std::fs::read_to_string(path).unwrap();
    for name in ["cubic", "bbr"] {
        if !available.split_whitespace().any(|one| one == name) {
            sidecar_tests::require::skip(&format!("this kernel has no {name}, only {available}"));
            continue;
        }
        let netns = Netns::new("congestion");
        // The proxy's own sockets: only root's own namespace has a sysctl for any of them, but each has routes.
        let route =
            "route replace local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1 congctl";
        netns.ip(&route.split(' ').chain([name]).collect::<Vec<_>>());
        let sidecar = Sidecar::start(&netns, &config("full"));
        let program = program(&sidecar, &["controlled", "--name", name]);
        assert_eq!(program.seen()["used"], name);
        Hop::of(&sidecar).goes_by("full");
    }
}
