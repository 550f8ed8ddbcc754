//! What goes wrong on either side: the other one is told, and the log and the counts say what it was.

use serde_json::Value;
use sidecar_tests::{Mode, PEER4, in_modes};

use super::{Http, case, get};

/// The status, reason and response flags of a line of the access log.
pub(super) fn said(line: &Value) -> (u64, Option<&str>, Option<&str>) {
    (line["status"].as_u64().unwrap(), line["reason"].as_str(), line["flags"].as_str())
}

/// Asks for a path that the server does not answer as it should: the sidecar does.
#[track_caller]
fn answered_by_the_sidecar(mode: Mode, path: &str, status: u16, reason: &str, flags: &str) {
    let http = Http::start(mode);
    let answer = http.one(&get(path));
    assert_eq!((&answer["status"], &answer["cut"]), (&status.into(), &false.into()), "{answer:#}");
    assert_eq!(answer["headers"]["x-sidecar-reason"], reason, "{answer:#}");
    assert_eq!(said(&http.logged(path)), (status.into(), Some(reason), Some(flags)));
    http.counted("GET", status, flags, 1);
}

fn refused(mode: Mode) {
    let http = Http::start(mode);
    let cases = case("refused", &[Some(&get("/refused"))], Some(1)).to_string();
    // The port after the server's: nobody listens there.
    let args = ["cases", PEER4, "8081", &format!("[{cases}]")];
    let seen = sidecar_tests::ask_http(&http.sidecar.place(), &args).remove(0);
    let answer = &seen["answers"][0];
    assert_eq!(answer["status"], 503, "{seen:#}");
    assert_eq!(answer["headers"]["x-sidecar-reason"], "upstream-connect-refused", "{seen:#}");
    assert_eq!(said(&http.logged("/refused")), (503, Some("upstream-connect-refused"), Some("UF")));
    http.counted("GET", 503, "UF", 1);
}
in_modes!(refused: Ebpf, Iptables);

fn resets_before_its_answer(mode: Mode) {
    answered_by_the_sidecar(mode, "/reset-before", 503, "upstream-reset", "UC");
}
in_modes!(resets_before_its_answer: Ebpf, Iptables);

fn answers_garbage(mode: Mode) {
    answered_by_the_sidecar(mode, "/garbage", 502, "upstream-protocol-error", "UPE");
}
in_modes!(answers_garbage: Ebpf, Iptables);

/// The upstream breaks off: so does the sidecar, and the client sees that something is missing.
#[track_caller]
fn broken_off(mode: Mode, path: &str) {
    let http = Http::start(mode);
    let answer = http.one(&get(path));
    assert_eq!((&answer["status"], &answer["cut"]), (&200.into(), &true.into()), "{answer:#}");
    assert_eq!(answer["headers"]["content-length"], "100", "{answer:#}");
    let line = http.logged(path);
    assert_eq!(said(&line), (200, None, Some("UC")));
    http.counted("GET", 200, "UC", 1);
}

fn closes_mid_body(mode: Mode) {
    broken_off(mode, "/cut");
}
in_modes!(closes_mid_body: Ebpf, Iptables);

fn resets_mid_body(mode: Mode) {
    broken_off(mode, "/reset-mid");
}
in_modes!(resets_mid_body: Ebpf, Iptables);

/// A connection that served one failure serves what comes after it.
fn goes_on_after_a_failure(mode: Mode) {
    let http = Http::start(mode);
    let (fails, works) = (get("/reset-before"), get("/echo"));
    let steps = [Some(&*fails), None, Some(&*works), None];
    let seen = http.cases(&[case("goes on", &steps, Some(0))]).remove(0);
    let answers = seen["answers"].as_array().unwrap();
    let statuses: Vec<&Value> = answers.iter().map(|answer| &answer["status"]).collect();
    assert_eq!(statuses, [503, 200], "{seen:#}");
}
in_modes!(goes_on_after_a_failure: Ebpf, Iptables);

/// A client resets its connection, having had an answer of this status; 0: none.
#[track_caller]
fn client_leaves(mode: Mode, path: &str, status: u16) {
    let http = Http::start(mode);
    let seen = http.client("leave", &[path, &status.to_string()]).remove(0);
    assert_eq!(seen["status"], status, "{seen}");
    assert_eq!(said(&http.logged(path)), (status.into(), None, Some("DC")));
    http.counted("GET", status, "DC", 1);
}

fn client_leaves_while_it_comes(mode: Mode) {
    client_leaves(mode, "/flood", 200);
}
in_modes!(client_leaves_while_it_comes: Ebpf, Iptables);

/// The upstream sends nothing meanwhile: it is the client's end alone that tells.
fn client_leaves_while_it_stalls(mode: Mode) {
    client_leaves(mode, "/stall", 200);
}
in_modes!(client_leaves_while_it_stalls: Ebpf, Iptables);

/// The same before the answer.
fn client_leaves_before_it_comes(mode: Mode) {
    client_leaves(mode, "/silent", 0);
}
in_modes!(client_leaves_before_it_comes: Ebpf, Iptables);
