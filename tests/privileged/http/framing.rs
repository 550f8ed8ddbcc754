//! What two parties could read differently is refused: it reaches no server, and its connection ends.

use serde_json::Value;
use sidecar_tests::{Mode, in_modes};

use super::{Http, case, get};

/// What is wrong, as it is called in `x-sidecar-reason`, the status for it, and the request.
fn bad_requests() -> Vec<(&'static str, &'static str, u64, String)> {
    let post =
        |fields: &str, body: &str| format!("POST /echo HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n{body}");
    let smuggled = get("/smuggled");
    let both = "content-length-with-transfer-encoding";
    let chunked = format!("0\r\n\r\n{smuggled}");
    let long = "a".repeat(9000);
    vec![
        ("length, then chunks", both, 400, post("Content-Length: 5\r\nTransfer-Encoding: chunked", &chunked)),
        ("chunks, then length", both, 400, post("Transfer-Encoding: chunked\r\nContent-Length: 5", &chunked)),
        (
            "two lengths",
            "content-length-repeated",
            400,
            post("Content-Length: 0\r\nContent-Length: 32", &smuggled),
        ),
        (
            "the same length twice",
            "content-length-repeated",
            400,
            post("Content-Length: 1\r\nContent-Length: 1", "a"),
        ),
        ("a list of lengths", "content-length", 400, post("Content-Length: 1, 1", "a")),
        ("a signed length", "content-length", 400, post("Content-Length: +1", "a")),
        ("a hexadecimal length", "content-length", 400, post("Content-Length: 0x1", "a")),
        ("no length at all", "content-length", 400, post("Content-Length:", "a")),
        ("an unknown coding", "transfer-encoding", 501, post("Transfer-Encoding: xchunked", &chunked)),
        (
            "chunks that are not last",
            "transfer-encoding",
            400,
            post("Transfer-Encoding: chunked, x", &chunked),
        ),
        ("a folded field", "folded-header", 400, post("X: a\r\n Content-Length: 5", "abcde")),
        ("a bare CR in a value", "header-value", 400, post("X: a\rContent-Length: 5", "abcde")),
        ("a NUL in a value", "header-value", 400, post("X: a\0b", "")),
        ("lines that end with LF", "line-without-cr", 400, "GET /echo HTTP/1.1\nHost: test\n\n".to_owned()),
        (
            "one line that ends with LF",
            "line-without-cr",
            400,
            "GET /echo HTTP/1.1\r\nHost: test\nX: a\r\n\r\n".to_owned(),
        ),
        (
            "a NUL in a chunk's extension",
            "chunk-extension",
            400,
            post("Transfer-Encoding: chunked", "1;\0\r\na\r\n0\r\n\r\n"),
        ),
        ("a chunk that ends with LF", "line-without-cr", 400, post("Transfer-Encoding: chunked", "1\na\r\n")),
        ("a space before the colon", "header-name", 400, post("Transfer-Encoding : chunked", &chunked)),
        ("no Host", "host", 400, "GET /echo HTTP/1.1\r\n\r\n".to_owned()),
        ("two Hosts", "host", 400, post("Host: other", "")),
        (
            "chunks in HTTP/1.0",
            "transfer-encoding-in-http-1.0",
            400,
            format!("POST /echo HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        ),
        ("a body before an upgrade", "upgrade-with-body", 400, {
            post("Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 1", "a")
        }),
        ("a large field", "header-too-large", 431, post(&format!("X: {long}"), "")),
        ("many fields", "too-many-headers", 431, post(&vec!["X: a"; 200].join("\r\n"), "")),
        ("a long target", "uri-too-long", 414, get(&format!("/{long}"))),
    ]
}

/// What is wrong with the last of these answers, which is to be the sidecar's refusal after so many good ones.
fn wrong(seen: &Value, good: usize, status: u64, reason: &str) -> Option<String> {
    let answers = seen["answers"].as_array().unwrap();
    let told = |answer: &Value| {
        let headers = &answer["headers"];
        answer["status"] == status
            && headers["x-sidecar-reason"] == reason
            && headers["connection"] == "close"
            && answer["cut"] == false
    };
    let right = answers.len() == good + 1
        && answers[..good].iter().all(|answer| answer["status"] == 200)
        && told(&answers[good])
        && seen["end"] == "eof";
    let all = || {
        let each = |answer: &Value| format!("{} {}", answer["status"], answer["headers"]["x-sidecar-reason"]);
        answers.iter().map(each).collect::<Vec<_>>().join(", ")
    };
    (!right).then(|| format!("{}, {status} {reason}: [{}], {}", seen["name"], all(), seen["end"]))
}

/// Runs a case with every bad request, which comes after so many good ones; these alone reach the server.
#[track_caller]
fn all_are_refused(http: &Http, good: usize, case_of: impl Fn(&str, &str) -> Value) {
    let bad = bad_requests();
    let cases: Vec<Value> = bad.iter().map(|(name, .., text)| case_of(name, text)).collect();
    let seen = http.cases(&cases);
    let each = bad.iter().zip(&seen);
    let wrong: Vec<String> =
        each.filter_map(|((_, reason, status, _), seen)| wrong(seen, good, *status, reason)).collect();
    let heads = http.heads();
    assert!(heads.iter().all(|head| head.starts_with("GET /echo?good HTTP/1.1\r\n")), "{heads:#?}");
    let (wrongs, good_ones) = (wrong.len(), heads.len());
    assert!(wrong.is_empty(), "{wrongs} of {}, with {good_ones} good ones: {wrong:#?}", bad.len());
    assert_eq!(heads.len(), good * bad.len());
}

fn alone(mode: Mode) {
    let http = Http::start(mode);
    all_are_refused(&http, 0, |name, text| case(name, &[Some(text)], None));
}
in_modes!(alone: Ebpf, Iptables);

/// In two writes, which may come as two reads: what is wrong may be in either.
fn in_two_pieces(mode: Mode) {
    let http = Http::start(mode);
    all_are_refused(&http, 0, |name, text| {
        let (first, rest) = text.split_at("POST /".len());
        case(name, &[Some(first), Some(rest)], None)
    });
}
in_modes!(in_two_pieces: Ebpf, Iptables);

/// On a connection that was good for a request.
fn after_a_good_request(mode: Mode) {
    let http = Http::start(mode);
    all_are_refused(&http, 1, |name, text| case(name, &[Some(&get("/echo?good")), None, Some(text)], None));
}
in_modes!(after_a_good_request: Ebpf, Iptables);

/// The same in one write: the good one is answered, the bad one refused.
fn behind_a_good_request(mode: Mode) {
    let http = Http::start(mode);
    let good = get("/echo?good");
    all_are_refused(&http, 1, |name, text| case(name, &[Some(&format!("{good}{text}"))], None));
}
in_modes!(behind_a_good_request: Ebpf, Iptables);

/// A body that turns bad when its request is on its way: the server never has all of it.
fn bad_chunk_later(mode: Mode) {
    let http = Http::start(mode);
    let head =
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    // The answer to read in between is the server's 100: it has the header by then.
    let steps = [Some(head), None, Some("1;\0\r\na\r\n0\r\n\r\n")];
    let seen = http.cases(&[case("late", &steps, None)]).remove(0);
    let answers = seen["answers"].as_array().unwrap();
    assert_eq!(answers[0]["status"], 100, "{seen:#}");
    assert!(answers[1..].iter().all(|answer| answer["status"].as_u64() >= Some(400)), "{seen:#}");
    assert_eq!(http.seen_by_server()["whole"], 0);
}
in_modes!(bad_chunk_later: Ebpf, Iptables);

/// Bytes behind a request for another protocol, which the server declines, are requests again.
fn behind_a_declined_upgrade(mode: Mode) {
    let http = Http::start(mode);
    let upgrade = "GET /echo?upgrade HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    for (hidden, reason) in [
        ("\u{81}\u{5}hello\r\n".to_owned(), "request-line"),
        ("GET /smuggled HTTP/1.1\nHost: test\n\n".to_owned(), "line-without-cr"),
        ("GET /smuggled HTTP/1.1\r\nHost: test\r\nHost: other\r\n\r\n".to_owned(), "host"),
    ] {
        let seen = http.whole(&format!("{upgrade}{hidden}"));
        assert_eq!(wrong(&seen, 1, 400, reason), None);
    }
    let heads = http.heads();
    assert!(heads.iter().all(|head| head.starts_with("GET /echo?upgrade HTTP/1.1\r\n")), "{heads:#?}");
    assert_eq!(heads.len(), 3);
}
in_modes!(behind_a_declined_upgrade: Ebpf, Iptables);
