//! Protocols in which the server speaks first, or both at once: a proxy that waits for the client would hang.

use sidecar_tests::{
    Config, Kind, Mode, PEER4, POD4, Pair, Postgres, Redis, Sidecar, in_modes, probe, require, serve,
};

fn banner(mode: Mode) {
    let net = Pair::new("banner");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _remote = serve(&net.peer.place(), Kind::Banner, "0.0.0.0:25");
    let _own = serve(&sidecar.place(), Kind::Banner, "0.0.0.0:25");
    for seen in [
        sidecar.probe(&["connect", PEER4, "25", "--read"]),
        probe(&net.peer.place(), &["connect", POD4, "25", "--read"]),
    ] {
        assert_eq!(seen["reply"]["text"], "220 ready");
        assert!(
            seen["elapsedMs"].as_u64().unwrap() < 1000,
            "detection must not hold a silent client: {seen}"
        );
    }
}
in_modes!(banner: Ebpf, Iptables);

fn postgres(mode: Mode) {
    require!(program "psql");
    let net = Pair::new("postgres");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let client = "select inet_client_addr()";
    {
        let _remote = Postgres::start(&net.peer, &net.peer.place());
        assert_eq!(Postgres::query(&sidecar.place(), PEER4, client).trim(), POD4);
        let wide = Postgres::query(&sidecar.place(), PEER4, "select repeat('x', 1000000)");
        assert_eq!(wide.trim().len(), 1_000_000);
    }
    let _own = Postgres::start(&net.pod, &sidecar.place());
    let seen = Postgres::query(&net.peer.place(), POD4, client);
    if mode == Mode::Ebpf {
        assert_eq!(seen.trim(), PEER4);
    }
}
in_modes!(postgres: Ebpf, Iptables);

fn redis(mode: Mode) {
    require!(program "redis-server");
    let net = Pair::new("redis");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    {
        let _remote = Redis::start(&net.peer, &net.peer.place());
        let seen = Redis::ask(&sidecar.place(), PEER4, &["client", "info"]);
        assert!(seen.contains(&format!(" addr={POD4}:")), "{seen}");
        assert!(seen.contains(&format!(" laddr={PEER4}:6379 ")), "{seen}");
    }
    let _own = Redis::start(&net.pod, &sidecar.place());
    let seen = Redis::ask(&net.peer.place(), POD4, &["client", "info"]);
    if mode == Mode::Ebpf {
        assert!(seen.contains(&format!(" addr={PEER4}:")), "{seen}");
        assert!(seen.contains(&format!(" laddr={POD4}:6379 ")), "{seen}");
    }
}
in_modes!(redis: Ebpf, Iptables);
