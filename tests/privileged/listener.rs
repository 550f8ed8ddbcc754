//! An explicit listener before a backend: a reverse proxy without interception.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use sidecar_tests::{Config, Kind, Mode, PEER4, POD4, Pair, Probe, Sidecar, probe, require, serve};

use crate::at;

/// A listener on port 8081 that forwards to `app`.
fn config(endpoints: serde_json::Value) -> Config {
    Config::new(Mode::Ebpf)
        .with("interception.mode", "none")
        .with("listeners", json!([{"name": "front", "address": "0.0.0.0:8081", "forward": "app"}]))
        .with_backend("app", endpoints)
}

#[test]
fn shares_by_weight() {
    require!(root);
    let net = Pair::new("weights");
    let _servers = ["0.0.0.0:9001", "0.0.0.0:9002"].map(|any| serve(&net.peer.place(), Kind::Peername, any));
    let (heavy, light) = (at(PEER4, 9001), at(PEER4, 9002));
    let endpoints = json!([{"address": heavy, "weight": 3}, {"address": light, "weight": 1}]);
    let sidecar = Sidecar::start(&net.pod, &config(endpoints));
    let mut served = BTreeMap::new();
    for _ in 0..8 {
        let seen = probe(&net.peer.place(), &["connect", POD4, "8081", "--read"]);
        *served.entry(seen["reply"]["getsockname"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(served, BTreeMap::from([(heavy, 6), (light, 2)]));
    // A program beside it dials as ever.
    let seen = sidecar.probe(&["connect", PEER4, "9001", "--read"]);
    assert!(!crate::captured(&seen), "{seen}");
    assert!(sidecar.footprint(&net.pod).links.is_empty());
}

/// Clients that go on connecting do not keep it from ending.
#[test]
fn ends_while_connections_arrive() {
    require!(root);
    let net = Pair::new("arrivals");
    let _server = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9000");
    let drain = Duration::from_secs(1);
    let config = config(json!([{"address": at(PEER4, 9000)}])).with("timeouts.drain", "1s");
    let mut sidecar = Sidecar::start(&net.pod, &config);
    let client = net.peer.place();
    let _held = Probe::hold(&client, &["many", POD4, "8081", "1"]);
    let loads = [(); 3].map(|()| Probe::hold(&client, &["load", POD4, "8081"]));
    let start = Instant::now();
    sidecar.program().signal(Signal::SIGTERM);
    let ended = sidecar.program().wait();
    let took = start.elapsed();
    assert!(took < drain + Duration::from_secs(3), "{took:?}: {ended:?}");
    for load in loads {
        let seen = load.finish();
        assert!(seen["ok"].as_u64().unwrap() > 0 && seen["errors"]["TIMEOUT"].is_null(), "{seen}");
    }
}
