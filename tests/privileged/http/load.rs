//! Many requests at once by h2load, over HTTP/2 with prior knowledge and over HTTP/1.1: none is lost, and none is invented.

use std::collections::BTreeMap;

use serde_json::Value;
use sidecar_tests::{DEADLINE, Finished, Mode, Nginx, eventually, require};

use super::{Http, Way, by_every_way};

const PORT: u16 = 8089;

/// More requests than any client here has for a connection.
const MANY: u64 = 1_000_000;

/// So many requests to nginx, which ends a connection after `kept` of them.
#[track_caller]
fn loaded(way: Way, mode: Mode, (listen, kept): (&str, u64), options: &[&str], requests: u64) {
    require!(program "nginx");
    require!(program "h2load");
    let http = Http::before(PORT, way, mode, |config| config);
    let server = format!(
        "keepalive_requests {kept};
         server {{ listen 0.0.0.0:{PORT} {listen}; access_log {}; return 200 'hello hello hello\\n'; }}",
        http.logs.path().join("nginx.log").display(),
    );
    let _nginx = Nginx::serving(http.netns(), &http.to(), PORT, &server);
    let (host, port) = way.reached(PORT);
    let mut h2load = http.from().command("h2load");
    h2load.args(["-n", &requests.to_string(), "-T", "30", "-N", "30"]).args(options);
    let said = Finished::of(h2load.arg(format!("http://{host}:{port}/load"))).success();
    let wanted = format!(
        "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, \
         0 timeout\nstatus codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx\n"
    );
    assert!(said.contains(&wanted), "{said}{:#?}", logged(&http));
    http.counted("GET", 200, "", requests);
    // It writes what it answered after that.
    let seen = || std::fs::read_to_string(http.logs.path().join("nginx.log")).unwrap().lines().count() as u64;
    eventually(DEADLINE, "all in the server's log", || (seen() >= requests).then_some(()));
    assert_eq!(seen(), requests, "what the server saw");
}

/// How many requests the log has of each status, flags and reason.
fn logged(http: &Http) -> BTreeMap<String, u64> {
    let log = std::fs::read_to_string(super::log_of(&http.logs)).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(format!("{} {} {}", line["status"], line["flags"], line["reason"])).or_default() += 1;
    }
    counts
}

/// One client with 100 streams.
fn streams(way: Way, mode: Mode) {
    loaded(way, mode, ("http2", MANY), &["-c", "1", "-m", "100"], 5000);
}
by_every_way!(streams: Ebpf, Iptables);

/// Several clients with many streams each.
fn clients(way: Way, mode: Mode) {
    loaded(way, mode, ("http2", MANY), &["-c", "10", "-m", "100"], 10_000);
}
by_every_way!(clients: Ebpf);

/// HTTP/1.1, several clients.
fn http1(way: Way, mode: Mode) {
    loaded(way, mode, ("", MANY), &["--h1", "-c", "20"], 5000);
}
by_every_way!(http1: Ebpf, Iptables);

/// HTTP/1.1 with requests sent before the answers to those before them came.
fn pipelined(way: Way, mode: Mode) {
    loaded(way, mode, ("", MANY), &["--h1", "-c", "4", "-m", "8"], 4000);
}
by_every_way!(pipelined: Ebpf);

/// The server says that it ends a connection (GOAWAY) while requests are under way: those that it does not take go by another.
fn renewed(way: Way, mode: Mode) {
    loaded(way, mode, ("http2", 1000), &["-c", "1", "-m", "100"], 5000);
}
by_every_way!(renewed: Ebpf);

/// The same in HTTP/1.1, where each answer says whether it is the last.
fn renewed_http1(way: Way, mode: Mode) {
    loaded(way, mode, ("", 100), &["--h1", "-c", "8"], 4000);
}
by_every_way!(renewed_http1: Ebpf);
