//! How long requests may take: `timeouts` of a policy, and what holds without one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sidecar_tests::{Finished, Mode, Probe, in_modes, python};

use super::failures::said;
use super::{Http, Way, get};

/// An explicit listener whose backend has these time-outs and speaks HTTP/1.1.
#[track_caller]
fn limited(mode: Mode, timeouts: &Value) -> Http {
    let policy = json!({ "timeouts": timeouts });
    Http::with(Way::Listener, mode, |config| {
        config.with_policy("limits", "app", policy).with_protocol("app", "http1")
    })
}

/// The answer begins, and does not end in time.
fn covers_the_whole_answer(mode: Mode) {
    for (timeouts, flags) in [
        (json!({"request": "300ms"}), "UT"),
        (json!({"request": "30s", "backendRequest": "300ms"}), "UT"),
        (json!({"idle": "300ms"}), "SI"),
    ] {
        let http = limited(mode, &timeouts);
        let started = Instant::now();
        let answer = http.one(&get("/stall"));
        assert!(started.elapsed() >= Duration::from_millis(300), "{timeouts}");
        assert_eq!((&answer["status"], &answer["cut"]), (&200.into(), &true.into()), "{answer:#}");
        assert_eq!(said(&http.logged("/stall")), (200, None, Some(flags)), "{timeouts}");
    }
}
in_modes!(covers_the_whole_answer: Ebpf);

/// No answer begins in time.
fn answers_in_its_place(mode: Mode) {
    for (timeouts, reason, flags) in [
        (json!({"request": "300ms"}), "request-timeout", "UT"),
        (json!({"backendRequest": "300ms"}), "upstream-timeout", "UT"),
        (json!({"idle": "300ms"}), "stream-idle-timeout", "SI"),
    ] {
        let http = limited(mode, &timeouts);
        let answer = http.one(&get("/silent"));
        assert_eq!(
            (&answer["status"], &answer["headers"]["x-sidecar-reason"]),
            (&504.into(), &reason.into())
        );
        assert_eq!(said(&http.logged("/silent")), (504, Some(reason), Some(flags)));
    }
}
in_modes!(answers_in_its_place: Ebpf);

/// A client that does not take its answer cannot hold it for ever, and what comes in time is not cut.
fn a_client_that_does_not_read(mode: Mode) {
    for (timeouts, flags) in [(json!({"request": "300ms"}), "UT"), (json!({"idle": "300ms"}), "SI")] {
        let http = limited(mode, &timeouts);
        let whole = http.one(&get("/echo"));
        assert_eq!((&whole["status"], &whole["cut"]), (&200.into(), &false.into()), "{whole:#}");
        let (host, port) = http.way.reached(super::PORT);
        let mut client = python(&http.from(), "http_client.py");
        let _lags = Probe::start(client.args(["lag", host, &port.to_string(), "/flood", "1000000000"]));
        assert_eq!(said(&http.logged("/flood")), (200, None, Some(flags)), "{timeouts}");
    }
}
in_modes!(a_client_that_does_not_read: Ebpf);

/// Of HTTP/2 the stream alone is reset.
fn resets_streams(mode: Mode) {
    for (timeouts, flags) in [(json!({"request": "300ms"}), "UT"), (json!({"idle": "300ms"}), "SI")] {
        let http = limited(mode, &timeouts);
        let (host, port) = http.way.reached(super::PORT);
        let mut curl = http.from().command("curl");
        let ended = Finished::of(
            curl.args(["-sv", "--http2-prior-knowledge", "--max-time", "10", "-o", "/dev/null"])
                .args(["-w", "%{http_code} %{exitcode} %{size_download}"])
                .arg(format!("http://{host}:{port}/stall")),
        );
        // 92: the stream was not closed cleanly.
        assert_eq!(ended.stdout, "200 92 10", "{ended:?}");
        assert!(ended.stderr.contains("left intact"), "{ended:?}");
        assert_eq!(said(&http.logged("/stall")), (200, None, Some(flags)), "{timeouts}");
    }
}
in_modes!(resets_streams: Ebpf);

/// Without a policy `timeouts.idle` of the proxy holds.
fn silence_by_default(mode: Mode) {
    let http = Http::with(Way::Outbound, mode, |config| config.with("timeouts.idle", "400ms"));
    let answer = http.one(&get("/silent"));
    assert_eq!(answer["headers"]["x-sidecar-reason"], "stream-idle-timeout", "{answer:#}");
    assert_eq!(said(&http.logged("/silent")), (504, Some("stream-idle-timeout"), Some("SI")));
    let answer = http.one(&get("/stall"));
    assert_eq!((&answer["status"], &answer["cut"]), (&200.into(), &true.into()), "{answer:#}");
    assert_eq!(said(&http.logged("/stall")), (200, None, Some("SI")));
}
in_modes!(silence_by_default: Ebpf, Iptables);
