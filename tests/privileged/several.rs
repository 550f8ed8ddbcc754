//! Several instances at once.

use std::path::Path;

use serde_json::Value;
use sidecar_tests::{
    Config, Finished, Kind, Mode, PEER4, POD4, Pair, Place, Sidecar, cli, http_server, in_modes, serve,
};

use crate::at;

/// Two network namespaces with the same addresses and ports: whose traffic is whose?
fn same_addresses(mode: Mode) {
    let worlds = ["one", "two"].map(|name| {
        let net = Pair::new(name);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("name"), name).unwrap();
        let remote = http_server(&net.peer, &net.peer.place(), 8000, directory.path());
        let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
        let own = http_server(&net.pod, &sidecar.place(), 8000, directory.path());
        (name, sidecar, own, remote, net, directory)
    });
    for _ in 0..5 {
        for (name, sidecar, _, _, net, _) in &worlds {
            assert_eq!(fetch(&sidecar.place(), PEER4), *name, "outbound");
            assert_eq!(fetch(&net.peer.place(), POD4), *name, "inbound");
        }
    }
}
in_modes!(same_addresses: Ebpf, Iptables);

fn fetch(place: &Place, host: &str) -> String {
    let url = format!("http://{host}:8000/name");
    Finished::of(place.command("curl").args(["-sS", "--max-time", "10", &url])).success()
}

/// Two instances in one network namespace: each has its own application, and the list names both.
fn same_netns(mode: Mode) {
    let net = Pair::new("several");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let sidecars = [9001, 9002].map(|port| {
        let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
        let server = serve(&sidecar.place(), Kind::Peername, &at("0.0.0.0", port));
        (port, sidecar, server)
    });
    let held: Vec<_> = sidecars
        .iter()
        .flat_map(|(port, sidecar, _)| {
            let inbound = ["connect", POD4, &port.to_string(), "--read"];
            let inbound = sidecar_tests::Probe::hold(&net.peer.place(), &inbound);
            assert_eq!(inbound.seen()["reply"]["accept"], inbound.seen()["sockname"]);
            [inbound, sidecar.hold(&["connect", PEER4, "9000", "--read"])]
        })
        .collect();
    for (port, sidecar, _) in &sidecars {
        sidecar.connection("inbound", &at(POD4, *port));
        sidecar.connection("outbound", &at(PEER4, 9000));
        assert_eq!(sidecar.connections().len(), 2, "{:?}", sidecar.connections());
    }
    // From any shell: not in the namespace. The status is about other tests' instances too, which come and go.
    let listed = cli(&Place::default(), &["connections", "-o", "json"]).stdout;
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    for (_, sidecar, _) in &sidecars {
        let own = listed.iter().filter(|connection| connection["instance"] == sidecar.name());
        assert_eq!(own.count(), 2, "{} in {listed:?}", sidecar.name());
    }
    let [(_, mut first, _), (port, second, _server)] = sidecars;
    drop(held);
    assert!(first.terminate().status.code().is_some());
    // The other goes on.
    let still = ["connect", POD4, &port.to_string(), "--read"];
    let still = sidecar_tests::Probe::hold(&net.peer.place(), &still);
    second.connection("inbound", &at(POD4, port));
    drop(still);
}
in_modes!(same_netns: Ebpf);

/// A second instance of the same name is refused, and the first goes on.
fn names_are_unique(mode: Mode) {
    let net = Pair::new("twice");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let again = cli(&net.pod.place(), &["run", "--name", sidecar.name(), "--", "true"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(again.stderr.contains(sidecar.name()), "{again:?}");
    assert!(Path::new("/run/sidecar").join(sidecar.name()).exists());
    sidecar.connections();
}
in_modes!(names_are_unique: Ebpf, Iptables);
