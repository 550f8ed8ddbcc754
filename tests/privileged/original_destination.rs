//! An outbound connection arrives where it was meant to go, and the record says where that is.

use sidecar_tests::{Config, Kind, Mode, PEER4, PEER6, POD4, POD6, Pair, Sidecar, in_modes, serve};

use crate::{at, captured};

fn arrives(mode: Mode, dialled: &str, server: &str, client: &str) {
    let net = Pair::new("destination");
    let any = if server.contains(':') { "[::]:9000" } else { "0.0.0.0:9000" };
    let _server = serve(&net.peer.place(), Kind::Peername, any);
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));

    let held = sidecar.hold(&["connect", dialled, "9000", "--read"]);
    let seen = held.seen();
    assert!(captured(seen), "{seen}");
    assert_eq!(seen["peername"], at(dialled, 9000));
    assert_eq!(seen["reply"]["getsockname"], at(server, 9000));
    let from = seen["reply"]["accept"].as_str().unwrap();
    assert!(from.starts_with(at(client, 0).trim_end_matches('0')), "from {from}");

    let connection = sidecar.connection("outbound", &at(server, 9000));
    assert_eq!(connection.text("upstream"), at(server, 9000));
    let sockname = seen["sockname"].as_str().unwrap();
    assert!(sockname.ends_with(&format!(":{}", connection.address("source").port())), "{connection:?}");
    if mode == Mode::Ebpf {
        assert_eq!(connection.number("pid"), held.pid());
        assert!(connection.text("comm").starts_with("python3"), "{connection:?}");
        assert!(
            connection.text("cgroup").ends_with(&format!("sidecar-{}/app", sidecar.name())),
            "{connection:?}"
        );
    }
}

fn v4(mode: Mode) {
    arrives(mode, PEER4, PEER4, POD4);
}
in_modes!(v4: Ebpf, Iptables);

fn v6(mode: Mode) {
    arrives(mode, PEER6, PEER6, POD6);
}
in_modes!(v6: Ebpf, Iptables);

fn v4_mapped(mode: Mode) {
    arrives(mode, &format!("::ffff:{PEER4}"), PEER4, POD4);
}
in_modes!(v4_mapped: Ebpf, Iptables);
