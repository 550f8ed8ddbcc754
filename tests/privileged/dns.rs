//! Backends whose endpoints are names: they are looked up as often as their answers say, for requests and for bytes alike.

use std::path::Path;

use serde_json::{Value, json};
use sidecar_tests::{
    Config, DEADLINE, Dns, Finished, Mode, Nginx, PEER4, Pair, Sidecar, eventually, in_modes,
};

/// The server's second address.
const OTHER4: &str = "10.7.0.3";
const PORT: u16 = 8080;

/// Which backend's endpoints a listener has: a name with its own requests, and one that changes each second.
const REQUESTS: u16 = 8081;
const BYTES: u16 = 8082;
const CLOCK: u16 = 8083;

/// A server with two addresses, names for it, and a sidecar whose listeners forward to these. Fields are dropped in order.
struct Names {
    _sidecar: Sidecar,
    dns: Dns,
    _server: Nginx,
    net: Pair,
}

impl Names {
    #[track_caller]
    fn start(mode: Mode, hosts: Option<&Path>, names: &[(u16, &str, &str)]) -> Self {
        let net = Pair::new("dns");
        net.peer.ip(&["address", "add", &format!("{OTHER4}/24"), "dev", "eth0"]);
        let server = Nginx::start(&net.peer, &net.peer.place(), PORT);
        let mut dns = Dns::start(&net.peer.place(), PEER4);
        let mut config = Config::new(mode);
        let mut listeners = Vec::new();
        for (port, name, protocol) in names {
            dns.set(name, 1, &[PEER4]);
            let backend = format!("b{port}");
            listeners.push(json!({
                "name": format!("l{port}"), "address": format!("127.0.0.1:{port}"), "forward": backend,
            }));
            let endpoints = json!([{"dns": format!("{name}:{PORT}")}]);
            let spec = json!({"protocol": protocol, "endpoints": endpoints});
            config = config.with_object("Backend", &backend, spec);
        }
        let mut place = net.pod.place().with_file(&dns.resolv_conf(), "/etc/resolv.conf");
        if let Some(hosts) = hosts {
            place = place.with_file(hosts, "/etc/hosts");
        }
        let config = config.with("listeners", Value::from(listeners));
        let sidecar = Sidecar::start_at(&place, &net.pod, &config);
        Self { _sidecar: sidecar, dns, _server: server, net }
    }

    /// The server's address that a request through this listener comes to; `None`: none.
    fn reached(&self, listener: u16) -> Option<String> {
        let mut curl = self.net.pod.place().command("curl");
        let url = format!("http://127.0.0.1:{listener}/");
        let said = Finished::of(curl.args(["-sS", "--fail", "--max-time", "10", &url]));
        let (_, server) = said.stdout.trim().split_once(' ')?;
        Some(server.strip_suffix(&format!(":{PORT}"))?.to_owned())
    }

    #[track_caller]
    fn reaches(&self, listener: u16, address: &str) {
        eventually(DEADLINE, &format!("{address} by {listener}"), || {
            (self.reached(listener)? == address).then_some(())
        });
    }
}

/// One second is followed soon; as long as an answer holds, nobody asks again, however many requests there are.
fn as_long_as_it_says(mode: Mode) {
    let apps = [(REQUESTS, "app.example", "auto"), (BYTES, "bytes.example", "tcp")];
    let mut names = Names::start(mode, None, &[apps[0], apps[1], (CLOCK, "clock.example", "auto")]);
    for (listener, name, _) in apps {
        names.reaches(listener, PEER4);
        names.dns.set(name, 1, &[OTHER4]);
        names.reaches(listener, OTHER4);
        names.dns.set(name, 60, &[PEER4]);
        names.reaches(listener, PEER4);
    }
    names.dns.set("app.example", 60, &[OTHER4]);
    names.dns.set("bytes.example", 60, &[OTHER4]);
    let before = apps.map(|(_, name, _)| names.dns.queries(name));
    // Another name's queries, one a second, are the clock.
    let clock = names.dns.queries("clock.example");
    let mut requests = 0;
    eventually(DEADLINE, "four seconds of requests", || {
        for (listener, ..) in apps {
            assert_eq!(names.reached(listener).as_deref(), Some(PEER4));
        }
        requests += 1;
        (names.dns.queries("clock.example") > clock + 3).then_some(())
    });
    assert!(requests > 4, "{requests}");
    assert_eq!(apps.map(|(_, name, _)| names.dns.queries(name)), before);
}
in_modes!(as_long_as_it_says: Ebpf, Iptables);

/// A name that cannot be looked up any more keeps its addresses, and is asked for less and less.
fn the_last_good_answer_stays(mode: Mode) {
    let apps = [(REQUESTS, "app.example", "auto"), (BYTES, "bytes.example", "tcp")];
    let mut names = Names::start(mode, None, &apps);
    for (listener, name, _) in apps {
        names.reaches(listener, PEER4);
        names.dns.set(name, 1, &[]);
        let before = names.dns.queries(name);
        eventually(DEADLINE, "failed look-ups", || {
            assert_eq!(names.reached(listener).as_deref(), Some(PEER4));
            (names.dns.queries(name) > before + 2).then_some(())
        });
        assert_eq!(names.reached(listener).as_deref(), Some(PEER4));
        names.dns.set(name, 1, &[OTHER4]);
        names.reaches(listener, OTHER4);
    }
}
in_modes!(the_last_good_answer_stays: Ebpf);

/// A file says it before any server, and is looked at again.
fn hosts_come_first(mode: Mode) {
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&hosts, format!("{PEER4} app.example bytes.example\n")).unwrap();
    let apps = [(REQUESTS, "app.example", "auto"), (BYTES, "bytes.example", "tcp")];
    let names = Names::start(mode, Some(hosts.path()), &apps);
    for (listener, ..) in apps {
        names.reaches(listener, PEER4);
    }
    std::fs::write(&hosts, format!("{OTHER4} app.example bytes.example\n")).unwrap();
    for (listener, name, _) in apps {
        names.reaches(listener, OTHER4);
        assert_eq!(names.dns.queries(name), 0);
    }
}
in_modes!(hosts_come_first: Ebpf);
