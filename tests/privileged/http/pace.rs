//! Connections that pause between requests, and answers before the answer.

use serde_json::{Value, json};
use sidecar_tests::{Mode, in_modes};

use super::{Http, Way, get};

/// Seconds after which a connection without a request has been put to rest.
const LONG: f64 = 2.5;

/// Requests for these paths on one connection, each after a pause.
fn paused(http: &Http, paths: &[&str]) -> Vec<Value> {
    let steps = paths.iter().flat_map(|path| [json!(get(path)), Value::Null, json!(LONG)]);
    let steps: Vec<Value> = steps.collect();
    let mut seen = http.cases(&[json!({"name": "paused", "steps": steps, "answers": 0})]).remove(0);
    let Value::Array(answers) = seen["answers"].take() else { panic!("{seen:#}") };
    assert_eq!(answers.len(), paths.len(), "{answers:#?}");
    answers
}

/// How often a connection was put to rest.
fn rested(http: &Http) -> u64 {
    http.sidecar.metric("sidecar_rested_connections_total")
}

fn connection_of(answer: &Value) -> &str {
    answer["headers"]["x-connection"].as_str().unwrap()
}

/// Between requests a connection keeps nothing but its sockets, and goes on as the same one on both sides.
fn rests_and_goes_on(mode: Mode) {
    let http = Http::start(mode);
    let answers = paused(&http, &["/echo", "/chunked", "/echo"]);
    assert!(answers.iter().all(|answer| answer["status"] == 200), "{answers:#?}");
    assert!(answers.iter().all(|answer| connection_of(answer) == "1"), "{answers:#?}");
    assert!(rested(&http) >= 2);
}
in_modes!(rests_and_goes_on: Ebpf, Iptables);

fn rests_inbound(mode: Mode) {
    let http = Http::by(Way::Inbound, mode);
    let answers = paused(&http, &["/echo", "/echo"]);
    assert_eq!([connection_of(&answers[0]), connection_of(&answers[1])], ["1", "1"], "{answers:#?}");
    assert!(rested(&http) >= 1);
}
in_modes!(rests_inbound: Ebpf, Iptables);

/// An upstream that closes while its client rests is not asked again: a new connection is.
fn closed_while_resting(mode: Mode) {
    let http = Http::start(mode);
    let answers = paused(&http, &["/close-late", "/echo"]);
    assert!(answers.iter().all(|answer| answer["status"] == 200), "{answers:#?}");
    assert_eq!([connection_of(&answers[0]), connection_of(&answers[1])], ["1", "2"], "{answers:#?}");
    assert_eq!(http.logged("/echo")["attempts"], 1);
    assert!(rested(&http) >= 1);
}
in_modes!(closed_while_resting: Ebpf, Iptables);

/// A header that comes in pieces, with a pause within, is no pause between requests.
fn does_not_rest_within_a_header(mode: Mode) {
    let http = Http::start(mode);
    let (first, last) = ("GET /echo HTTP/1.1\r\nHo", "st: test\r\n\r\n");
    let steps = json!([get("/echo"), null, first, LONG, last, null]);
    let seen = http.cases(&[json!({"name": "pieces", "steps": steps, "answers": 0})]).remove(0);
    let statuses: Vec<_> = seen["answers"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, [200, 200], "{seen:#}");
}
in_modes!(does_not_rest_within_a_header: Ebpf);

/// The end of a connection that rests is its client's, or the idle time's.
fn idle_while_resting(mode: Mode) {
    let http = Http::with(Way::Outbound, mode, |config| config.with("timeouts.idle", "3s"));
    let steps = json!([get("/echo"), null]);
    let seen = http.cases(&[json!({"name": "idle", "steps": steps, "answers": null})]).remove(0);
    assert_eq!((&seen["answers"].as_array().unwrap().len(), &seen["end"]), (&1, &json!("eof")), "{seen:#}");
}
in_modes!(idle_while_resting: Ebpf);

/// A hint goes to the client before the answer is there (RFC 8297), without what was for the proxy; to continue a client is told
/// once.
fn early_hints(mode: Mode) {
    for way in [Way::Outbound, Way::Listener] {
        let http = Http::by(way, mode);
        let steps = json!([get("/hints"), null, null, null, get("/echo"), null]);
        let seen = http.cases(&[json!({"name": "hints", "steps": steps, "answers": 0})]).remove(0);
        let answers = seen["answers"].as_array().unwrap();
        let statuses: Vec<_> = answers.iter().map(|one| &one["status"]).collect();
        assert_eq!(statuses, [103, 103, 200, 200], "{seen:#}");
        let link = "</style.css>; rel=preload; as=style";
        assert_eq!(
            (&answers[0]["headers"]["link"], &answers[0]["headers"]["x-hop"]),
            (&json!(link), &Value::Null)
        );
        assert_eq!(answers[2]["body"], "after hints");
    }
}
in_modes!(early_hints: Ebpf);

/// A client of HTTP/1.0 knows no interim answers (RFC 9110 section 15.2).
fn no_hints_for_http_1_0(mode: Mode) {
    let http = Http::start(mode);
    let seen = http.whole("GET /hints HTTP/1.0\r\nHost: test\r\n\r\n");
    assert_eq!(seen["answers"][0]["status"], 200, "{seen:#}");
}
in_modes!(no_hints_for_http_1_0: Ebpf);
