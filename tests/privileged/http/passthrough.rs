//! What is clear goes through unchanged, whichever way it is framed.

use serde_json::Value;
use sidecar_tests::{Finished, Mode, Nginx, PEER4, in_modes};

use super::{Http, case, get};

/// Large enough not to fit into any buffer on its way.
const LARGE: &str = "50000000";

/// An answer to HEAD says how long a body would be, and has none; the connection goes on.
fn head(mode: Mode) {
    let http = Http::start(mode);
    let text = "HEAD /echo HTTP/1.1\r\nHost: test\r\n\r\n";
    let seen = http.cases(&[case("head", &[Some(text), None, Some(&get("/echo"))], Some(1))]).remove(0);
    let [first, second] = &seen["answers"].as_array().unwrap()[..] else { panic!("{seen:#}") };
    assert_eq!((&first["status"], &first["headers"]["content-length"]), (&200.into(), &"1234".into()));
    assert_eq!((&second["status"], &second["body"]), (&200.into(), &"".into()));
}
in_modes!(head: Ebpf, Iptables);

fn chunks_both_ways(mode: Mode) {
    let http = Http::start(mode);
    let text = "POST /chunked HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                3;of=three\r\none\r\nB\r\n, two, done\r\n0\r\nX-Sum: 14\r\n\r\n";
    let answer = http.one(text);
    assert_eq!((&answer["status"], &answer["body"]), (&200.into(), &"one, two, done".into()), "{answer:#}");
    assert_eq!(answer["headers"]["transfer-encoding"], "chunked", "{answer:#}");
    assert_eq!(answer["cut"], false);
    let line = http.logged("/chunked");
    assert_eq!((&line["requestBytes"], &line["responseBytes"]), (&14.into(), &14.into()), "{line}");
}
in_modes!(chunks_both_ways: Ebpf, Iptables);

/// The upstream's connection ends with its answer; the client is told all of it and where it ends, and goes on.
fn close_delimited(mode: Mode) {
    let http = Http::start(mode);
    let (first, second) = (get("/close-delimited"), get("/echo"));
    let steps = [Some(&*first), None, Some(&*second), None];
    let seen = http.cases(&[case("close", &steps, Some(0))]).remove(0);
    let [first, second] = &seen["answers"].as_array().unwrap()[..] else { panic!("{seen:#}") };
    assert_eq!((&first["body"], &first["cut"]), (&"to the end".into(), &false.into()), "{seen:#}");
    assert_eq!((&second["status"], &second["headers"]["x-connection"]), (&200.into(), &"2".into()));
    assert_eq!(http.logged("/close-delimited")["flags"], Value::Null);
    http.counted("GET", 200, "", 2);
}
in_modes!(close_delimited: Ebpf, Iptables);

/// The upstream closes after each answer without a word of it: the next request goes by a new connection.
fn closed_between_requests(mode: Mode) {
    const REQUESTS: usize = 30;
    let http = Http::start(mode);
    let request = get("/close-after");
    let steps = [Some(&*request), None].repeat(REQUESTS);
    let seen = http.cases(&[case("closed", &steps, Some(0))]).remove(0);
    let answers = seen["answers"].as_array().unwrap();
    assert_eq!(answers.len(), REQUESTS, "{seen:#}");
    for (number, answer) in answers.iter().enumerate() {
        let connection = (number + 1).to_string();
        assert_eq!(
            (&answer["status"], &answer["headers"]["x-connection"]),
            (&200.into(), &connection.into())
        );
    }
}
in_modes!(closed_between_requests: Ebpf, Iptables);

/// A client of HTTP/1.0 knows no chunks: its answer ends with its connection.
fn http_1_0(mode: Mode) {
    let http = Http::start(mode);
    let seen = http.whole("POST /chunked HTTP/1.0\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
    let answer = &seen["answers"][0];
    assert_eq!((&answer["status"], &answer["body"]), (&200.into(), &"hello".into()), "{seen:#}");
    assert_eq!(answer["headers"]["transfer-encoding"], Value::Null, "{seen:#}");
    assert_eq!((&answer["cut"], &seen["end"]), (&false.into(), &"eof".into()), "{seen:#}");
}
in_modes!(http_1_0: Ebpf, Iptables);

/// It may come without a Host, which a request of HTTP/1.1 must have (RFC 9112 section 3.2): it goes on as one that its
/// server takes.
fn http_1_0_without_host(mode: Mode) {
    let http = Http::start(mode);
    let seen = http.whole("GET /echo HTTP/1.0\r\n\r\n");
    assert_eq!(seen["answers"][0]["status"], 200, "{seen:#}");
    let head = http.heads().remove(0);
    let has_host = head.to_ascii_lowercase().contains("\r\nhost:");
    assert!(has_host || head.starts_with("GET /echo HTTP/1.0\r\n"), "{head}");
}
in_modes!(http_1_0_without_host: Ebpf, Iptables);

/// The client sends its body only when it is told to.
fn expect_continue(mode: Mode) {
    let http = Http::start(mode);
    let head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let seen = http.cases(&[case("expect", &[Some(head), None, Some("hello")], Some(1))]).remove(0);
    let [first, second] = &seen["answers"].as_array().unwrap()[..] else { panic!("{seen:#}") };
    assert_eq!((&first["status"], &second["status"]), (&100.into(), &200.into()), "{seen:#}");
    assert_eq!(second["body"], "hello");
}
in_modes!(expect_continue: Ebpf, Iptables);

/// Each request of a connection goes by the same connection to the server, in order.
fn keep_alive(mode: Mode) {
    const REQUESTS: usize = 100;
    let http = Http::start(mode);
    let requests: Vec<String> = (0..REQUESTS).map(|number| get(&format!("/echo?{number}"))).collect();
    let steps: Vec<Option<&str>> = requests.iter().flat_map(|request| [Some(&**request), None]).collect();
    let seen = http.cases(&[case("reuse", &steps, Some(0))]).remove(0);
    let answers = seen["answers"].as_array().unwrap();
    assert_eq!((answers.len(), &seen["end"]), (REQUESTS, &Value::Null), "{seen:#}");
    for answer in answers {
        assert_eq!((&answer["status"], &answer["headers"]["x-connection"]), (&200.into(), &"1".into()));
    }
    let heads = http.heads();
    assert_eq!(heads.len(), REQUESTS);
    for (number, head) in heads.iter().enumerate() {
        assert!(head.starts_with(&format!("GET /echo?{number} HTTP/1.1\r\n")), "{head}");
    }
    http.counted("GET", 200, "", REQUESTS as u64);
}
in_modes!(keep_alive: Ebpf, Iptables);

/// Sent at once: answered in order.
fn pipelined(mode: Mode) {
    let http = Http::start(mode);
    let post = |body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let bodies = ["one", "two", "three"];
    let text = bodies.map(post).concat();
    let seen = http.cases(&[case("pipelined", &[Some(&text)], Some(3))]).remove(0);
    let answers = seen["answers"].as_array().unwrap();
    let echoed: Vec<&Value> = answers.iter().map(|answer| &answer["body"]).collect();
    assert_eq!(echoed, bodies, "{seen:#}");
}
in_modes!(pipelined: Ebpf, Iptables);

fn large_body(mode: Mode) {
    let http = Http::start(mode);
    for (path, framing) in [("/echo", "length"), ("/chunked", "chunked")] {
        let seen = http.client("transfer", &[path, LARGE, framing]).remove(0);
        let answer = &seen["answer"];
        assert!(seen["sent"].as_str().unwrap().starts_with(&format!("{LARGE} ")), "{seen:#}");
        assert_eq!(answer["headers"]["x-digest"], seen["sent"], "as the server got it");
        assert_eq!(answer["digest"], seen["sent"], "as it came back");
        let line = http.logged(path);
        let bytes: u64 = LARGE.parse().unwrap();
        assert_eq!((&line["requestBytes"], &line["responseBytes"]), (&bytes.into(), &bytes.into()), "{line}");
    }
    http.counted("POST", 200, "", 2);
}
in_modes!(large_body: Ebpf, Iptables);

/// A header comes to the server as it was, but for the name and the trace that the sidecar gives a request, and for what is
/// meant for one hop.
fn header(mode: Mode) {
    let http = Http::start(mode);
    let text = "GET /echo?x=%20 HTTP/1.1\r\nHost: Test:80\r\nX-Many: 1\r\nX-Many: 2\r\nKeep-Alive: 5\r\n\
                Connection: x-hop\r\nX-Hop: 1\r\n\r\n";
    assert_eq!(http.one(text)["status"], 200);
    let head = http.heads().remove(0);
    let (first, fields) = head.split_once("\r\n").unwrap();
    assert_eq!(first, "GET /echo?x=%20 HTTP/1.1");
    let mut fields: Vec<String> = fields.trim_end().split("\r\n").map(str::to_ascii_lowercase).collect();
    let names = ["x-request-id: ", "traceparent: 00-"];
    for name in names {
        let before = fields.len();
        fields.retain(|field| !field.starts_with(name));
        assert_eq!(fields.len(), before - 1, "{name}{head}");
    }
    assert_eq!(fields, ["host: test:80", "x-many: 1", "x-many: 2"], "{head}");
}
in_modes!(header: Ebpf, Iptables);

fn log_and_count(mode: Mode) {
    let http = Http::start(mode);
    let text =
        "POST /echo?logged HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nX-Request-Id: my-id\r\n\r\nhello";
    assert_eq!(http.one(text)["body"], "hello");
    let line = http.logged("/echo?logged");
    for (field, wanted) in [
        ("method", Value::from("POST")),
        ("host", "test".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("direction", "outbound".into()),
        ("route", "passthrough".into()),
        ("backend", "passthrough".into()),
        ("endpoint", format!("{PEER4}:{}", super::PORT).into()),
        ("attempts", 1.into()),
        ("requestBytes", 5.into()),
        ("responseBytes", 5.into()),
        ("requestId", "my-id".into()),
        ("flags", Value::Null),
        ("reason", Value::Null),
    ] {
        assert_eq!(line[field], wanted, "{field}: {line}");
    }
    http.counted("POST", 200, "", 1);
    assert_eq!(http.one(&get("/echo?named"))["status"], 200);
    let line = http.logged("/echo?named");
    let id = line["requestId"].as_str().unwrap();
    assert!(http.heads()[1].contains(&format!("x-request-id: {id}\r\n")), "{line}");
    http.counted("GET", 200, "", 1);
}
in_modes!(log_and_count: Ebpf, Iptables);

/// HTTP/2 without TLS, known beforehand.
fn h2c(mode: Mode) {
    sidecar_tests::require!(program "nginx");
    sidecar_tests::require!(program "curl");
    let http = Http::start(mode);
    let place = http.net.peer.place();
    let server = "server { listen 0.0.0.0:8082 http2; return 200 '$server_protocol\\n'; }";
    let _nginx = Nginx::serving(&http.net.peer, &place, 8082, server);
    let mut curl = http.sidecar.place().command("curl");
    curl.args(["-sS", "--max-time", "10", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}"]);
    let seen = Finished::of(curl.arg(format!("http://{PEER4}:8082/h2"))).success();
    assert_eq!(seen, "HTTP/2.0\n2 200");
    let line = http.logged("/h2");
    assert_eq!(
        (&line["protocol"], &line["status"], &line["responseBytes"]),
        (&"HTTP/2".into(), &200.into(), &9.into())
    );
    http.counted("GET", 200, "", 1);
}
in_modes!(h2c: Ebpf, Iptables);
