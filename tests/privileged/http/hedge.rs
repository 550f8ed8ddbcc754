//! Attempts beside each other: `hedgeOnPerTryTimeout` of a policy.

use serde_json::{Value, json};
use sidecar_tests::{Config, Mode, PEER4, in_modes, listen};

use super::{Http, PORT, Way, case, get};
use crate::at;

/// Nobody answers there, though connections come about.
const MUTE: u16 = 8081;

fn hedged(config: Config, attempts: u32) -> Config {
    let retry = json!({"attempts": attempts, "perTryTimeout": "150ms", "hedgeOnPerTryTimeout": true});
    config.with_policy("hedge", "app", json!({"retry": retry, "loadBalancer": {"type": "RoundRobin"}}))
}

/// Where one endpoint is late, the other one answers.
fn another_answers(mode: Mode) {
    let endpoints = json!([{"address": at(PEER4, MUTE)}, {"address": at(PEER4, PORT)}]);
    let http = Http::with(Way::Listener, mode, |config| hedged(config.with_endpoints("app", endpoints), 1));
    let _mute = listen(&http.net.peer.place(), &(MUTE..MUTE + 1));
    for request in
        [get("/echo"), "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab".to_owned()]
    {
        let steps: Vec<Option<&str>> = [Some(&*request), None].repeat(4);
        let seen = http.cases(&[case("hedged", &steps, Some(0))]).remove(0);
        let statuses: Vec<&Value> =
            seen["answers"].as_array().unwrap().iter().map(|answer| &answer["status"]).collect();
        assert_eq!(statuses, [200; 4], "{seen:#}");
    }
    assert!(http.sidecar.metric("sidecar_retries_total") >= 2);
}
in_modes!(another_answers: Ebpf);

/// The one that is late goes on, and its answer counts where it comes first.
fn the_late_one_answers(mode: Mode) {
    let http = Http::with(Way::Listener, mode, |config| hedged(config, 2));
    let answer = http.one(&get("/race"));
    assert_eq!(
        (&answer["status"], &answer["headers"]["x-connection"]),
        (&200.into(), &"1".into()),
        "{answer:#}"
    );
    let line = http.logged("/race");
    assert_eq!((&line["attempts"], &line["flags"]), (&3.into(), &Value::Null), "{line}");
    // Those that are given up do not stay.
    http.counted("GET", 200, "", 1);
}
in_modes!(the_late_one_answers: Ebpf);
