//! Inbound: a server behind the proxy, and what it and its client see of each other.

use sidecar_tests::{
    Config, Kind, Mode, Nginx, PEER4, POD4, POD6, Pair, Probe, Sidecar, canonical, in_modes, require, serve,
};

use crate::at;

fn serves(mode: Mode, listen: &str, host: &str) {
    let net = Pair::new("inbound");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _server = serve(&sidecar.place(), Kind::Peername, listen);

    let held = Probe::hold(&net.peer.place(), &["connect", host, "9000", "--read"]);
    let seen = held.seen();
    assert_eq!(seen["peername"], at(host, 9000));
    if mode == Mode::Ebpf {
        assert_eq!(seen["reply"]["accept"], seen["sockname"], "accept() names the real client");
        assert_eq!(seen["reply"]["getpeername"], seen["sockname"], "getpeername() names the real client");
        assert_eq!(seen["reply"]["getsockname"], at(host, 9000));
    }
    let connection = sidecar.connection("inbound", &at(host, 9000));
    assert_eq!(connection.text("source"), seen["sockname"].as_str().unwrap());
}

fn v4(mode: Mode) {
    serves(mode, "0.0.0.0:9000", POD4);
}
in_modes!(v4: Ebpf, Iptables);

fn v6(mode: Mode) {
    serves(mode, "[::]:9000", POD6);
}
in_modes!(v6: Ebpf, Iptables);

/// One socket for both families: it names an IPv4 client by its mapped address, as without us.
fn both_families(mode: Mode) {
    let net = Pair::new("both");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _server = serve(&sidecar.place(), Kind::Peername, "*:9000");
    for (host, form) in [(POD4, "::ffff:"), (POD6, "")] {
        let held = Probe::hold(&net.peer.place(), &["connect", host, "9000", "--read"]);
        let seen = held.seen();
        assert_eq!(seen["peername"], at(host, 9000));
        sidecar.connection("inbound", &at(host, 9000));
        if mode == Mode::Ebpf {
            let client = canonical(seen["sockname"].as_str().unwrap()).unwrap();
            let client = at(&format!("{form}{}", client.ip()), client.port());
            assert_eq!(seen["reply"]["accept"], client, "accept() names the real client");
            assert_eq!(seen["reply"]["getpeername"], client, "getpeername() names the real client");
            assert_eq!(seen["reply"]["getsockname"], at(&format!("{form}{host}"), 9000));
        }
    }
}
in_modes!(both_families: Ebpf, Iptables);

/// nginx asks no getpeername: it believes what accepting gave.
fn nginx(mode: Mode) {
    require!(program "nginx");
    let net = Pair::new("nginx");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _nginx = Nginx::start(&net.pod, &sidecar.place(), 80);
    let mut curl = net.peer.place().command("curl");
    let seen = sidecar_tests::Finished::of(curl.args(["-sS", &format!("http://{POD4}")])).success();
    assert!(seen.starts_with(&format!("{PEER4}:")), "{seen}");
    assert!(seen.ends_with(&format!(" {POD4}:80\n")), "{seen}");
}
in_modes!(nginx: Ebpf);
