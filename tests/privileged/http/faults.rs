//! Upstreams that do what they should not. A client is told of it, or sees that its answer is cut, and never takes one answer for
//! another; the log says what it was.

use serde_json::{Value, json};
use sidecar_tests::Mode;

use super::scripted::{PORT, Scripted, one};
use super::{Http, Way, by_every_way, get};

/// What comes to a client.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Comes {
    /// The sidecar's own answer: status, reason and flags.
    Told(u16, &'static str, &'static str),
    /// The upstream's with this status, up to here at most, with which the connection ends.
    Cut(u16, &'static str),
    /// All of the upstream's.
    Whole(u16, &'static str),
}
use Comes::{Cut, Told, Whole};

const RESET: Comes = Told(503, "upstream-reset", "UC");
const WRONG: Comes = Told(502, "upstream-protocol-error", "UPE");

/// An answer that nobody asked for.
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled";

/// The path, what the upstream does when it has the request's header, and what its client gets.
fn faults() -> Vec<(&'static str, Value, Comes)> {
    let sized =
        |length: u32, body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    let fields = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nhello");
    let reset = ["reset"];
    let hold = ["hold"];
    vec![
        ("/closes", json!([]), RESET),
        ("/resets", json!([reset]), RESET),
        ("/closes-in-its-first-line", json!(["HTTP/1.1 20"]), RESET),
        ("/closes-in-its-header", json!(["HTTP/1.1 200 OK\r\ncontent-le"]), RESET),
        ("/resets-in-its-header", json!(["HTTP/1.1 200 OK\r\ncontent-le", reset]), RESET),
        ("/closes-behind-103", json!(["HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"]), RESET),
        ("/closes-in-its-body", json!([sized(10, "hello")]), Cut(200, "hello")),
        ("/resets-in-its-body", json!([sized(10, "hello"), ["look", 0.1], reset]), Cut(200, "hello")),
        ("/closes-before-its-body", json!([sized(10, "")]), Cut(200, "")),
        ("/closes-between-chunks", json!([chunked("5\r\nhello\r\n")]), Cut(200, "hello")),
        ("/closes-in-a-chunk", json!([chunked("a\r\nhello")]), Cut(200, "hello")),
        ("/closes-in-its-trailers", json!([chunked("5\r\nhello\r\n0\r\nx: ")]), Cut(200, "hello")),
        (
            "/resets-between-chunks",
            json!([chunked("5\r\nhello\r\n"), ["look", 0.1], reset]),
            Cut(200, "hello"),
        ),
        (
            "/sends-a-bad-chunk",
            json!([chunked("5\r\nhello\r\nzz\r\nhello\r\n0\r\n\r\n"), hold]),
            Cut(200, "hello"),
        ),
        ("/sends-garbage", json!(["\u{0}\u{1}\u{2}garbage\r\n\r\n", hold]), WRONG),
        ("/speaks-first-of-other-things", json!(["220 mail.test ESMTP\r\n", hold]), WRONG),
        ("/has-no-status", json!(["HTTP/1.1 OK\r\n\r\n", hold]), WRONG),
        ("/has-another-version", json!(["HTTP/7.1 200 OK\r\ncontent-length: 0\r\n\r\n", hold]), WRONG),
        ("/has-a-field-without-colon", json!([fields("content-length 5"), hold]), WRONG),
        ("/has-a-space-before-a-colon", json!([fields("content-length : 5"), hold]), WRONG),
        ("/has-two-lengths", json!([fields("content-length: 5\r\ncontent-length: 4"), hold]), WRONG),
        ("/has-a-list-of-lengths", json!([fields("content-length: 5, 4"), hold]), WRONG),
        ("/has-a-bad-length", json!([fields("content-length: 5x"), hold]), WRONG),
        ("/has-a-signed-length", json!([fields("content-length: +5"), hold]), WRONG),
        (
            "/has-an-endless-header",
            json!(["HTTP/1.1 200 OK\r\nx: ", ["repeat", "a".repeat(10_000), 1000], hold]),
            WRONG,
        ),
        ("/has-endless-fields", json!(["HTTP/1.1 200 OK\r\n", ["repeat", "x: a\r\n", 100_000], hold]), WRONG),
        (
            "/switches",
            json!(["HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", hold]),
            Told(502, "unexpected-upgrade", "UPE"),
        ),
        (
            "/hints-first",
            json!(["HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", sized(5, "hello")]),
            Whole(200, "hello"),
        ),
        ("/sends-more", json!([format!("{}{SMUGGLED}", sized(5, "hello")), hold]), Whole(200, "hello")),
        (
            "/sends-more-chunks",
            json!([format!("{}{SMUGGLED}", chunked("5\r\nhello\r\n0\r\n\r\n")), hold]),
            Whole(200, "hello"),
        ),
        (
            "/sends-more-than-nothing",
            json!([format!("HTTP/1.1 204 No Content\r\n\r\n{SMUGGLED}"), hold]),
            Whole(204, ""),
        ),
        (
            "/sends-more-than-not-modified",
            json!([format!("HTTP/1.1 304 Not Modified\r\ncontent-length: 8\r\n\r\n{SMUGGLED}"), hold]),
            Whole(304, ""),
        ),
        ("/ends-with-its-connection", json!(["HTTP/1.1 200 OK\r\n\r\nhello"]), Whole(200, "hello")),
    ]
}

/// What is wrong with what came to a client, and with what the log says of it.
fn wrong(http: &Http, path: &str, comes: Comes, seen: &Value) -> Option<String> {
    let answers = seen["answers"].as_array().unwrap();
    let line = http.logged(path);
    let is_after = |answer: &Value| answer["status"] == 200 && answer["body"] == "after";
    let came = match (comes, &answers[..]) {
        (Told(status, reason, _), [answer, after]) => {
            let headers = &answer["headers"];
            answer["status"] == status && headers["x-sidecar-reason"] == reason && is_after(after)
        }
        (Whole(status, body), [answer, after]) => {
            let whole = answer["status"] == status && answer["body"] == body && answer["cut"] == false;
            whole && is_after(after)
        }
        // What was under way as the upstream broke off may be lost with it.
        (Cut(..), []) => seen["end"] == "eof" || seen["end"] == "reset",
        (Cut(status, body), [answer]) => {
            let begins = answer["body"].as_str().is_some_and(|part| body.starts_with(part));
            answer["status"] == status && begins && answer["cut"] == true && seen["end"] != "timeout"
        }
        _ => false,
    };
    let (status, reason, flags, bytes) = match comes {
        Told(status, reason, flags) => (status, Some(reason), Some(flags), 0),
        Cut(status, body) => (status, None, Some("UC"), body.len()),
        Whole(status, body) => (status, None, None, body.len()),
    };
    let logged = line["status"] == status
        && line["reason"].as_str() == reason
        && line["flags"].as_str() == flags
        && (line["responseBytes"] == bytes || matches!(comes, Cut(..)));
    (!came || !logged).then(|| {
        let brief = |answer: &Value| {
            let reason = &answer["headers"]["x-sidecar-reason"];
            format!("{} {reason} {} cut: {}", answer["status"], answer["body"], answer["cut"])
        };
        let all: Vec<String> = answers.iter().map(brief).collect();
        let line =
            ["status", "reason", "flags", "responseBytes"].map(|field| line[field].to_string()).join(" ");
        format!("{path} is to be {comes:?}: {all:?}, {}; logged {line}", seen["end"])
    })
}

/// Each on a connection of its own, with a request behind it that a good answer is for.
fn upstreams(way: Way, mode: Mode) {
    let http = Http::before(PORT, way, mode, |config| config);
    let faults = faults();
    let mut scripts: serde_json::Map<String, Value> =
        faults.iter().map(|(path, steps, _)| ((*path).to_owned(), steps.clone())).collect();
    scripts.insert("/after".to_owned(), json!(["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nafter"]));
    let _server = Scripted::start(&http, &scripts.into());
    let mut wrongs = Vec::new();
    for (path, steps, comes) in &faults {
        let mut asked = vec![json!(get(path)), Value::Null, json!(get("/after")), Value::Null];
        let hints = steps[0].as_str().is_some_and(|text| text.starts_with("HTTP/1.1 103 "));
        if hints {
            asked.insert(1, Value::Null);
        }
        let mut seen = one(&http, json!(asked), 0);
        if hints {
            let hint = seen["answers"].as_array_mut().unwrap().remove(0);
            assert_eq!((&hint["status"], &hint["headers"]["link"]), (&103.into(), &"x".into()), "{seen:#}");
        }
        wrongs.extend(wrong(&http, path, *comes, &seen));
    }
    assert!(wrongs.is_empty(), "{} of {}: {wrongs:#?}", wrongs.len(), faults.len());
}
by_every_way!(upstreams: Ebpf, Iptables);

/// An answer may come before the request is whole. The rest is taken then, or the connection ends; it is no request.
fn answers_early(way: Way, mode: Mode) {
    let http = Http::before(PORT, way, mode, |config| config);
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly";
    let scripts = json!({
        "/reads-on": [["read", 5], good, ["read", 5], ["say", "whole"]],
        "/refuses": [["read", 5], "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig"],
        "/after": ["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nafter"],
    });
    let mut server = Scripted::start(&http, &scripts);
    let begin = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234");
    let seen = one(&http, json!([begin("/reads-on"), null, "56789", get("/after"), null]), 0);
    let answers = seen["answers"].as_array().unwrap();
    assert_eq!((&answers[0]["status"], &answers[0]["body"]), (&200.into(), &"early".into()), "{seen:#}");
    // Its connection goes on, or ends: what is not to be is an answer that is not for the request.
    let after = answers.get(1).is_none_or(|answer| answer["body"] == "after");
    assert!(after && seen["end"] != "timeout", "{seen:#}");
    server.says("whole");
    assert_eq!(http.logged("/reads-on")["status"], 200);
    let seen = one(&http, json!([begin("/refuses"), null]), 0);
    let answer = &seen["answers"][0];
    assert_eq!((&answer["status"], &answer["body"]), (&413.into(), &"big".into()), "{seen:#}");
    let line = http.logged("/refuses");
    assert_eq!((&line["status"], &line["reason"]), (&413.into(), &Value::Null), "{line}");
}
by_every_way!(answers_early: Ebpf, Iptables);

/// Upstreams that stall before, within and after the beginning of an answer, until their clients go.
fn stalls(way: Way, mode: Mode) {
    let http = Http::by(way, mode);
    for (path, status) in [("/silent", 0), ("/stall", 200), ("/flood", 200)] {
        let seen = http.client("leave", &[path, &status.to_string()]).remove(0);
        assert_eq!(seen["status"], status, "{seen}");
        let line = http.logged(path);
        assert_eq!((&line["status"], &line["flags"]), (&status.into(), &"DC".into()), "{line}");
    }
}
by_every_way!(stalls: Ebpf, Iptables);
