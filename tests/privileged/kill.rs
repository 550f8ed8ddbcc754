//! The proxy is killed under load: what happens then is a setting.

use serde_json::{Value, json};
use sidecar_tests::{
    Config, DEADLINE, Kind, Mode, PEER4, POD4, Pair, Place, Probe, Sidecar, eventually, in_modes, probe,
    serve,
};

const OUT: [&str; 4] = ["connect", PEER4, "9000", "--read"];
const IN: [&str; 4] = ["connect", POD4, "9001", "--read"];

/// Kills the proxy while a program under it makes connections; then `check` sees the place where applications run,
/// and after it everything is detached.
fn killed(config: &Config, check: impl Fn(&Pair, &Place, &dyn Fn() -> Value)) {
    let net = Pair::new("killed");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let _echo = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9002");
    let mut sidecar = Sidecar::start(&net.pod, config);
    let place = sidecar.place();
    let _own = serve(&place, Kind::Peername, "0.0.0.0:9001");
    let before = sidecar.footprint(&net.pod);
    let load = std::cell::Cell::new(Some(Probe::hold(&place, &["load", PEER4, "9002", "--timeout", "5"])));

    sidecar.kill();
    check(&net, &place, &|| load.take().unwrap().finish());
    drop(load.take());

    sidecar.end_apps();
    sidecar.detach().success();
    eventually(DEADLINE, "everything to be detached", || {
        let left = before.remains(sidecar.name());
        (left == sidecar_tests::Footprint::default()).then_some(()).or_else(|| {
            assert!(!left.directory, "the instance's directory is left");
            None
        })
    });
    assert_eq!(sidecar_tests::rules(&net.pod), Vec::<String>::new());
    assert_eq!(probe(&net.pod.place(), &OUT)["error"], json!(null));
}

/// Traffic passes untouched: what was in the proxy's hands is reset, nothing is refused.
fn open(mode: Mode) {
    killed(&Config::new(mode).with("interception.onProxyDown", "open"), |net, place, load| {
        for _ in 0..5 {
            let seen = probe(place, &OUT);
            assert_eq!(seen["error"], json!(null));
            assert!(!crate::captured(&seen), "{seen}");
            let seen = probe(&net.peer.place(), &IN);
            assert_eq!(seen["reply"]["accept"], seen["sockname"]);
        }
        let seen = load();
        let errors = seen["errors"].as_object().unwrap();
        assert!(errors.keys().all(|error| error == "ECONNRESET" || error == "EOF"), "{seen}");
        let failed: u64 = errors.values().filter_map(Value::as_u64).sum();
        assert!(failed <= 2, "more than what was in flight failed: {seen}");
    });
}
in_modes!(open: Ebpf);

/// Connections are refused at once, not left to hang.
fn closed(mode: Mode) {
    killed(&Config::new(mode).with("interception.onProxyDown", "closed"), |net, place, load| {
        for seen in [probe(place, &OUT), probe(&net.peer.place(), &IN)] {
            assert_eq!(seen["error"], "ECONNREFUSED");
            assert!(seen["elapsedMs"].as_u64().unwrap() < 1000, "{seen}");
        }
        let seen = load();
        assert!(seen["errors"]["ECONNREFUSED"].as_u64().unwrap() > 0, "{seen}");
        assert!(seen["errors"]["TIMEOUT"].is_null(), "{seen}");
        assert_eq!(probe(&net.pod.place(), &OUT)["error"], json!(null), "a neighbour is not refused");
    });
}
in_modes!(closed: Ebpf);

/// Rules lead to a port on which nobody listens, as Istio's do, until they are detached.
fn rules(mode: Mode) {
    killed(&Config::new(mode), |_, place, _| {
        assert_eq!(probe(place, &OUT)["error"], "ECONNREFUSED");
    });
}
in_modes!(rules: Iptables);
