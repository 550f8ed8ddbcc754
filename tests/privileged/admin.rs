//! The ports beside the proxy's: admin, health and metrics.

use serde_json::Value;
use sidecar_tests::{
    Config, Connection, DEADLINE, Kind, Mode, PEER4, Pair, Sidecar, eventually, in_modes, serve,
};

use crate::at;

fn metrics(mode: Mode) {
    let net = Pair::new("metrics");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let dial = ["connect", PEER4, "9000", "--read"];
    sidecar.probe(&dial);
    let held = sidecar.hold(&dial);
    let said = sidecar.ask("metrics", "/metrics", &["--include"]).success().to_lowercase();
    assert!(said.contains("content-type: application/openmetrics-text"), "{said}");
    assert!(said.ends_with("\n# eof\n"), "{said}");
    assert_eq!(sidecar.metric(r#"sidecar_tcp_connections_opened_total{direction="outbound"}"#), 2);
    assert_eq!(sidecar.metric(r#"sidecar_tcp_connections_opened_total{direction="inbound"}"#), 0);
    let open = r#"sidecar_tcp_open_connections{direction="outbound"}"#;
    eventually(DEADLINE, "one open connection", || (sidecar.metric(open) == 1).then_some(()));
    drop(held);
    eventually(DEADLINE, "no open connection", || (sidecar.metric(open) == 0).then_some(()));
    if mode == Mode::Ebpf {
        assert_eq!(sidecar.metric("sidecar_bpf_captured_outbound_total"), 2);
    }
}
in_modes!(metrics: Ebpf, Iptables);

fn health(mode: Mode) {
    let net = Pair::new("health");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    for probe in ["ready", "live"] {
        assert_eq!(sidecar.ask("health", &format!("/healthz/{probe}"), &[]).success().trim(), probe);
    }
    // Its drain makes it unready, not dead.
    sidecar.ask("admin", "/drain", &["--request", "POST"]).success();
    eventually(DEADLINE, "an unready proxy", || {
        let ready = sidecar.ask("health", "/healthz/ready", &[]);
        ready.stderr.contains(" 503").then_some(())
    });
    assert_eq!(sidecar.ask("health", "/healthz/live", &[]).success().trim(), "live");
}
in_modes!(health: Ebpf, Iptables);

fn admin(mode: Mode) {
    let net = Pair::new("admin");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let mut sidecar = Sidecar::start(&net.pod, &Config::new(mode).with("limits.maxConnections", 4321));
    let held = sidecar.hold(&["connect", PEER4, "9000", "--read"]);
    let live = Connection::list(&sidecar.ask("admin", "/connections", &[]).success());
    assert!(live.len() == 1 && live[0].is("outbound", &at(PEER4, 9000)), "{live:?}");
    let dump = sidecar.ask("admin", "/config_dump", &[]).success();
    let dump: Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(dump["limits"]["maxConnections"], 4321);
    assert_eq!(dump["interception"]["mode"], mode.name());
    drop(held);

    // Looking at it is not asking for it.
    let looked = sidecar.ask("admin", "/quitquitquit", &[]);
    assert!(looked.stderr.contains(" 405"), "{looked:?}");
    assert!(!sidecar.program().has_ended());
    sidecar.ask("admin", "/quitquitquit", &["--request", "POST"]).success();
    let ended = sidecar.program().wait();
    assert_eq!(ended.status.code(), Some(128 + 15), "{ended:?}");
    assert!(!sidecar.directory().exists());
}
in_modes!(admin: Ebpf, Iptables);
