//! The servers and the probe without a sidecar: what the scenarios compare with.

use serde_json::json;

use crate::require;

use super::*;
use crate::{Finished, PEER4, PEER6, POD4, POD6, Pair, Probe, probe};

#[test]
fn peername_tells_both_sides() {
    require!(root);
    let net = Pair::new("peername");
    for (listen, host, client) in [("0.0.0.0:9000", PEER4, POD4), ("[::]:9001", PEER6, POD6)] {
        let _server = serve(&net.peer.place(), Kind::Peername, listen);
        let port = listen.rsplit(':').next().unwrap();
        let seen = probe(&net.pod.place(), &["connect", host, port, "--read"]);
        let server = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        assert_eq!(seen["peername"], server);
        assert_eq!(seen["error"], json!(null));
        assert_eq!(seen["reply"]["accept"], seen["sockname"]);
        assert_eq!(seen["reply"]["getpeername"], seen["sockname"]);
        assert_eq!(seen["reply"]["getsockname"], server);
        assert!(seen["sockname"].as_str().unwrap().contains(client), "{seen}");
    }
}

#[test]
fn a_mapped_address_reaches_an_ipv4_server() {
    require!(root);
    let net = Pair::new("mapped");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let seen = probe(&net.pod.place(), &["connect", &format!("::ffff:{PEER4}"), "9000", "--read"]);
    assert_eq!(seen["peername"], format!("[::ffff:{PEER4}]:9000"));
}

#[test]
fn nobody_listening_refuses() {
    require!(root);
    let net = Pair::new("refused");
    for extra in [&[][..], &["--nonblocking"]] {
        let seen = probe(&net.pod.place(), &[&["connect", PEER4, "9000"], extra].concat());
        assert_eq!(seen["error"], "ECONNREFUSED");
        assert_eq!(seen["peername"], json!(null));
    }
}

#[test]
fn transfers_agree_in_every_direction() {
    require!(root);
    let net = Pair::new("transfer");
    let _sink = serve(&net.peer.place(), Kind::Sink, "0.0.0.0:9000");
    let mut source = serve(&net.peer.place(), Kind::Source, "0.0.0.0:9001");
    let _echo = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9002");
    let place = net.pod.place();
    for bytes in ["0", "1", "3000000"] {
        let up = probe(&place, &["upload", PEER4, "9000", bytes]);
        assert_eq!(up["received"], up["sent"], "{up}");
        let down = probe(&place, &["download", PEER4, "9001", bytes]);
        assert_eq!(down["received"], down["expected"], "{down}");
        let echo = probe(&place, &["echo", PEER4, "9002", bytes]);
        assert_eq!(echo["received"], echo["sent"], "{echo}");
    }
    // After its own half-close the source still received what the probe sent then.
    assert_eq!(source.wait_for_output("after").matches("after the half-close").count(), 3);
}

#[test]
fn one_socket_connects_again() {
    require!(root);
    let net = Pair::new("retry");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9001");
    for way in ["same", "new"] {
        let seen = probe(&net.pod.place(), &["retry", way, PEER4, "9000", PEER4, "9001", PEER4, "9001"]);
        assert_eq!(seen["errors"], json!(["ECONNREFUSED", null, null]), "{way}");
        assert_eq!(seen["peername"], format!("{PEER4}:9001"));
        assert_eq!(seen["reply"]["accept"], seen["sockname"]);
    }
}

#[test]
fn datagrams_and_unix_sockets_echo() {
    require!(root);
    let net = Pair::new("udp");
    let _server = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9000");
    let seen = probe(&net.pod.place(), &["udp", PEER4, "9000"]);
    let address = format!("{PEER4}:9000");
    assert_eq!(
        seen,
        json!({"unconnected": "ping", "from": address, "connected": "ping", "peername": address})
    );
    assert_eq!(probe(&net.pod.place(), &["unix"])["reply"], "ping");
}

#[test]
fn many_connections_are_held_and_used_again() {
    require!(root);
    let net = Pair::new("many");
    let _server = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9000");
    let held = Probe::hold(&net.pod.place(), &["many", PEER4, "9000", "300"]);
    assert_eq!(held.seen(), &json!({"open": 300, "echoed": 300}));
    assert_eq!(held.finish(), json!({"open": 300, "echoed": 600}));
}

#[test]
fn children_connect_as_their_parent_does() {
    require!(root);
    let net = Pair::new("children");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let seen = probe(&net.pod.place(), &["children", PEER4, "9000"]);
    for child in ["forked", "executed"] {
        assert_eq!(seen[child]["peername"], format!("{PEER4}:9000"));
    }
}

#[test]
fn load_counts_what_fails() {
    require!(root);
    let net = Pair::new("load");
    let server = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9000");
    let load = Probe::hold(&net.pod.place(), &["load", PEER4, "9000"]);
    drop(server);
    eventually(DEADLINE, "the server's port to refuse", || {
        let seen = probe(&net.pod.place(), &["connect", PEER4, "9000"]);
        (seen["error"] == "ECONNREFUSED").then_some(())
    });
    let seen = load.finish();
    assert!(seen["ok"].as_u64().unwrap() > 0, "{seen}");
    assert!(seen["errors"]["ECONNREFUSED"].as_u64().unwrap() > 0, "{seen}");
}

#[test]
fn banner_speaks_first_and_blackhole_never() {
    require!(root);
    let net = Pair::new("banner");
    let _banner = serve(&net.peer.place(), Kind::Banner, "0.0.0.0:9000");
    let _blackhole = serve(&net.peer.place(), Kind::Blackhole, "0.0.0.0:9001");
    let seen = probe(&net.pod.place(), &["connect", PEER4, "9000", "--read"]);
    assert_eq!(seen["reply"]["text"], "220 ready");
    let seen = probe(&net.pod.place(), &["connect", PEER4, "9001", "--read", "--timeout", "0.2"]);
    assert_eq!(seen["end"], "TIMEOUT");
}

#[test]
fn one_socket_serves_both_families() {
    require!(root);
    let net = Pair::new("both");
    let _server = serve(&net.peer.place(), Kind::Peername, "*:9000");
    for (host, client) in [(PEER4, "[::ffff:10.7.0.1]:"), (PEER6, "[fd00::1]:")] {
        let seen = probe(&net.pod.place(), &["connect", host, "9000", "--read"]);
        assert!(seen["reply"]["accept"].as_str().unwrap().starts_with(client), "{seen}");
    }
}

#[test]
fn hasty_resets_after_its_answer() {
    require!(root);
    let net = Pair::new("hasty");
    let _server = serve(&net.peer.place(), Kind::Hasty, "0.0.0.0:9000");
    let seen = probe(&net.pod.place(), &["early", PEER4, "9000", "1000", "3"]);
    assert_eq!((&seen["received"], &seen["whole"]), (&3000.into(), &3.into()), "{seen}");
}

#[test]
fn listeners_are_on_all_their_ports_once_or_twice() {
    require!(root);
    let net = Pair::new("listeners");
    let sweep = || probe(&net.pod.place(), &["sweep", PEER4, "20000", "50"]);
    for listen in [listen, listen_twice] {
        let listening = listen(&net.peer.place(), &(20_000..20_050));
        assert_eq!(sweep()["connected"], 50);
        drop(listening);
        assert_eq!(sweep()["errors"]["ECONNREFUSED"], 50);
    }
}

#[test]
fn nginx_names_its_client() {
    require!(root);
    require!(program "nginx");
    let net = Pair::new("nginx");
    let _nginx = Nginx::start(&net.peer, &net.peer.place(), 80);
    let seen =
        Finished::of(net.pod.place().command("curl").args(["-sS", &format!("http://{PEER4}")])).success();
    assert!(seen.starts_with(&format!("{POD4}:")) && seen.ends_with(&format!("{PEER4}:80\n")), "{seen}");
}

#[test]
fn redis_and_postgres_name_their_client() {
    require!(root);
    require!(program "redis-server");
    require!(program "psql");
    let net = Pair::new("databases");
    let _redis = Redis::start(&net.peer, &net.peer.place());
    let seen = Redis::ask(&net.pod.place(), PEER4, &["client", "info"]);
    assert!(seen.contains(&format!(" addr={POD4}:")), "{seen}");
    let _postgres = Postgres::start(&net.peer, &net.peer.place());
    assert_eq!(Postgres::query(&net.pod.place(), PEER4, "select inet_client_addr()").trim(), POD4);
}

#[test]
fn python_serves_files() {
    require!(root);
    let net = Pair::new("files");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("hello"), "hello from a file").unwrap();
    let _server = http_server(&net.peer, &net.peer.place(), 8000, directory.path());
    let url = format!("http://{PEER4}:8000/hello");
    let seen = Finished::of(net.pod.place().command("curl").args(["-sS", &url])).success();
    assert_eq!(seen, "hello from a file");
}
