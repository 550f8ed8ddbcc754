//! The same requests by each way to the sidecar.

use serde_json::{Value, json};
use sidecar_tests::{Finished, Mode, Nginx, PEER4, POD4, in_modes, require};

use super::{Http, Way, case, get};

/// What is good is served and counted, what is bad reaches no server.
#[track_caller]
fn serves(way: Way, mode: Mode) {
    let http = Http::by(way, mode);
    let bad = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let post = "POST /chunked?way HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                5\r\nhello\r\n0\r\n\r\n";
    let steps = [Some(&*get("/echo")), None, Some(post), None, Some(bad)];
    let seen = http.cases(&[case("serves", &steps, None)]).remove(0);
    let [first, second, third] = &seen["answers"].as_array().unwrap()[..] else { panic!("{seen:#}") };
    assert_eq!((&first["status"], &second["body"]), (&200.into(), &"hello".into()), "{seen:#}");
    assert_eq!((&third["status"], &seen["end"]), (&400.into(), &"eof".into()), "{seen:#}");
    assert_eq!(http.heads().len(), 2);
    let (direction, backend) = way.labels();
    let line = http.logged("/chunked?way");
    for (field, wanted) in [("direction", direction), ("backend", backend), ("route", "passthrough")] {
        assert_eq!(line[field], wanted, "{line}");
    }
    assert_eq!((&line["requestBytes"], &line["responseBytes"]), (&5.into(), &5.into()), "{line}");
    http.counted("POST", 200, "", 1);
    http.counted("GET", 200, "", 1);
}

fn inbound(mode: Mode) {
    serves(Way::Inbound, mode);
}
in_modes!(inbound: Ebpf, Iptables);

fn listener(mode: Mode) {
    serves(Way::Listener, mode);
}
in_modes!(listener: Ebpf);

/// A listener is the first proxy that a client meets: it says who asked.
fn listener_says_who(mode: Mode) {
    let http = Http::by(Way::Listener, mode);
    assert_eq!(http.one(&get("/echo"))["status"], 200);
    let head = http.heads().remove(0).to_ascii_lowercase();
    for field in [&format!("x-forwarded-for: {PEER4}"), "x-forwarded-proto: http", "x-forwarded-host: test"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{head}");
    }
}
in_modes!(listener_says_who: Ebpf);

/// The trailers of both messages, where both sides ask for them (RFC 9110 section 6.6.2).
#[track_caller]
fn passes_trailers(way: Way, mode: Mode) {
    let http = Http::by(way, mode);
    let answer = http.one(
        "POST /trailers HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: x-count\r\n\
         Connection: TE\r\nTE: trailers\r\n\r\n3\r\nabc\r\n0\r\nX-Count: 1\r\n\r\n",
    );
    assert_eq!((&answer["status"], &answer["body"]), (&200.into(), &"abc".into()), "{answer:#}");
    assert_eq!(answer["trailers"], json!(["x-sum: 3"]), "{answer:#}");
    assert_eq!(http.seen_by_server()["trailers"], json!(["x-count: 1"]));
}

fn trailers_outbound(mode: Mode) {
    passes_trailers(Way::Outbound, mode);
}
in_modes!(trailers_outbound: Ebpf, Iptables);

fn trailers_listener(mode: Mode) {
    passes_trailers(Way::Listener, mode);
}
in_modes!(trailers_listener: Ebpf);

/// nginx sees the client itself, and says so in its own log; curl uses one connection for all.
#[track_caller]
fn nginx_for_curl(
    mode: Mode,
    requests: usize,
    listen: &str,
    options: &[&str],
    protocol: &str,
    version: &str,
) {
    require!(program "nginx");
    require!(program "curl");
    let http = Http::by(Way::Inbound, mode);
    let log = http.logs.path().join("nginx.log");
    let server = format!(
        "log_format seen '$remote_addr $server_addr $server_protocol $connection';
         server {{ listen 0.0.0.0:8082 {listen}; access_log {} seen; return 200 'hello\\n'; }}",
        log.display()
    );
    let _nginx = Nginx::serving(&http.net.pod, &http.sidecar.place(), 8082, &server);
    let mut curl = http.net.peer.place().command("curl");
    curl.args(["-sS", "--fail", "--max-time", "10", "-w", "%{http_version} %{num_connects}\n"]).args(options);
    let answers = Finished::of(curl.arg(format!("http://{POD4}:8082/curl?[1-{requests}]"))).success();
    let expected = (0..requests).map(|number| format!("hello\n{version} {}\n", u8::from(number == 0)));
    assert_eq!(answers, expected.collect::<String>());
    let seen = std::fs::read_to_string(log).unwrap();
    let mut lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), requests, "{seen}");
    lines.dedup();
    assert_eq!(lines.len(), 1, "all by one connection: {seen}");
    // Rules cannot make a connection come from an address that the proxy does not have.
    if mode == Mode::Ebpf {
        assert!(lines[0].starts_with(&format!("{PEER4} {POD4} {protocol} ")), "{seen}");
    }
    let line = http.logged("/curl?1");
    assert!(line["source"].as_str().unwrap().contains(PEER4), "{line}");
    assert_eq!((&line["status"], &line["flags"]), (&200.into(), &Value::Null), "{line}");
    http.counted("GET", 200, "", requests as u64);
}

fn nginx(mode: Mode) {
    nginx_for_curl(mode, 20, "", &[], "HTTP/1.1", "1.1");
}
in_modes!(nginx: Ebpf, Iptables);

fn nginx_h2c(mode: Mode) {
    // A second request on such a connection fails in curl 7.88 against nginx itself.
    nginx_for_curl(mode, 1, "http2", &["--http2-prior-knowledge"], "HTTP/2.0", "2");
}
in_modes!(nginx_h2c: Ebpf, Iptables);
