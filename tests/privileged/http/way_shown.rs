//! What requests and answers say of their way: `headers` of the proxy's configuration.

use serde_json::json;
use sidecar_tests::{Mode, PEER4, in_modes};

use super::{Http, Way};

/// The fields of the request that came to the server, and of its answer, that say which way it went.
#[track_caller]
fn fields(http: &Http) -> (Vec<String>, Option<String>) {
    let sent = "GET /echo HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 192.0.2.1\r\nVia: 1.0 before\r\n\r\n";
    let answer = http.one(sent);
    let head = http.heads().remove(0).to_lowercase();
    let mut fields: Vec<String> = head
        .lines()
        .filter(|line| line.starts_with("x-forwarded") || line.starts_with("via"))
        .map(ToOwned::to_owned)
        .collect();
    fields.sort();
    (fields, answer["headers"]["via"].as_str().map(ToOwned::to_owned))
}

fn replaced_at_a_listener(mode: Mode) {
    let http = Http::with(Way::Listener, mode, |config| {
        config.with("headers", json!({"via": "edge", "forwarded": "replace"}))
    });
    let (request, answer) = fields(&http);
    let expected = [
        "via: 1.0 before".to_owned(),
        "via: 1.1 edge".to_owned(),
        format!("x-forwarded-for: {PEER4}"),
        "x-forwarded-host: test".to_owned(),
        "x-forwarded-proto: http".to_owned(),
    ];
    assert_eq!((request.as_slice(), answer.as_deref()), (expected.as_slice(), Some("1.1 edge")));
}
in_modes!(replaced_at_a_listener: Ebpf);

/// What is captured does not notice, unless it is to.
fn captured(mode: Mode) {
    let sent = ["via: 1.0 before".to_owned(), "x-forwarded-for: 192.0.2.1".to_owned()];
    let http = Http::with(Way::Outbound, mode, |config| config.with("headers", json!({"via": "edge"})));
    assert_eq!(fields(&http), (sent.to_vec(), None));
    let asked = json!({"via": "edge", "forwarded": "keep", "captured": true});
    let http = Http::with(Way::Outbound, mode, |config| config.with("headers", asked));
    let shown = [sent[0].clone(), "via: 1.1 edge".to_owned(), sent[1].clone()];
    assert_eq!(fields(&http), (shown.to_vec(), Some("1.1 edge".to_owned())));
}
in_modes!(captured: Ebpf);
