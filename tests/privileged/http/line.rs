//! How many connections a backend has, and how many requests each of them: `connectionPool` of a policy.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Mode, eventually, in_modes};

use super::failures::said;
use super::{Http, Way, case, get};

#[track_caller]
fn with_pool(mode: Mode, spec: Value) -> Http {
    Http::with(Way::Listener, mode, |config| config.with_policy("pool", "app", spec))
}

/// The number of the server's connection that each answer came by.
fn connections(seen: &Value) -> Vec<&str> {
    let answers = seen["answers"].as_array().unwrap();
    answers.iter().map(|answer| answer["headers"]["x-connection"].as_str().unwrap_or("none")).collect()
}

/// Clients on all threads of the sidecar share one connection, in turn.
fn waits_for_the_connection(mode: Mode) {
    let http = with_pool(mode, json!({"connectionPool": {"maxConnections": 1}}));
    let request = get("/echo");
    let steps: Vec<Option<&str>> = [Some(&*request), None].repeat(20);
    let case = case("shared", &steps, Some(0));
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..8).map(|_| scope.spawn(|| http.cases(std::slice::from_ref(&case)).remove(0))).collect();
        for client in clients {
            let seen = client.join().unwrap();
            assert_eq!(connections(&seen), ["1"; 20], "{seen:#}");
        }
    });
}
in_modes!(waits_for_the_connection: Ebpf);

/// Of three requests one is sent, one waits, and one is refused; who waits does so no longer than it may.
fn refuses_what_cannot_wait(mode: Mode) {
    let pool = json!({"maxConnections": 1, "maxPendingRequests": 1});
    let http = with_pool(mode, json!({"connectionPool": pool, "timeouts": {"request": "6s"}}));
    thread::scope(|scope| {
        let held = scope.spawn(|| http.one(&get("/silent")));
        eventually(DEADLINE, "a request at the server", || (http.heads().len() == 1).then_some(()));
        let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| http.one(&get("/echo")))).collect();
        let reasons: BTreeSet<String> = waiting
            .into_iter()
            .map(|client| client.join().unwrap()["headers"]["x-sidecar-reason"].as_str().unwrap_or("").into())
            .collect();
        // The first request's time is over before that of the one that waits, which gets its place.
        assert_eq!(reasons, [String::new(), "overflow".into()].into(), "{reasons:?}");
        assert_eq!(held.join().unwrap()["status"], 504);
    });
    http.counted("GET", 503, "UO", 1);
    assert_eq!(said(&http.logged("/silent")), (504, Some("request-timeout"), Some("UT")));
}
in_modes!(refuses_what_cannot_wait: Ebpf);

fn uses_a_connection_so_often(mode: Mode) {
    let http = with_pool(mode, json!({"connectionPool": {"maxRequestsPerConnection": 2}}));
    let request = get("/echo");
    let steps: Vec<Option<&str>> = [Some(&*request), None].repeat(5);
    let seen = http.cases(&[case("so often", &steps, Some(0))]).remove(0);
    assert_eq!(connections(&seen), ["1", "1", "2", "2", "3"], "{seen:#}");
}
in_modes!(uses_a_connection_so_often: Ebpf);
