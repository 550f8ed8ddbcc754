//! After a switch of protocols (101) there are bytes in both directions: WebSocket between programs of a real library, and what
//! a tunnel looks like when its ends do not do as they should.

use std::process::Command;

use serde_json::{Value, json};
use sidecar_tests::{Finished, Mode, Place, Program, in_modes, python, require, tool};

use super::scripted::{PORT, Scripted, one};
use super::{Http, Way, by_every_way, get};

/// The answer that switches.
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

fn websocket(place: &Place, args: &[&str]) -> Command {
    let mut command = place.command(tool("websockets", "python").unwrap());
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/programs/websocket.py")).args(args);
    command
}

#[track_caller]
pub(super) fn websocket_server(http: &Http) -> Program {
    let mut server = Program::start(&mut websocket(&http.to(), &["serve", &PORT.to_string()]));
    server.wait_for_output("listening");
    server
}

/// A request for another protocol.
fn upgrade(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
}

fn bytes(line: &Value) -> (u64, u64) {
    (line["requestBytes"].as_u64().unwrap(), line["responseBytes"].as_u64().unwrap())
}

/// Messages of all kinds and sizes, pings, and closes from either side; the log has the bytes of both directions.
fn library(way: Way, mode: Mode) {
    require!(@ tool("websockets", "python"));
    let http = Http::before(PORT, way, mode, |config| config);
    let mut server = websocket_server(&http);
    let (host, port) = way.reached(PORT);
    let said = Finished::of(&mut websocket(&http.from(), &["client", host, &port.to_string()])).success();
    let (counts, rest) = said.split_once('\n').unwrap();
    assert_eq!(rest, "ok\n");
    for closed in ["/echo?all 4002 client's", "/echo?compressed 1000", "/close 4001 server's"] {
        server.wait_for_output(&format!("closed {closed}"));
    }
    let line = http.logged("/echo?all");
    let (up, down) = bytes(&line);
    assert_eq!(counts, format!("bytes {up} {down}"), "{line}");
    let (direction, backend) = way.labels();
    for (field, wanted) in [
        ("status", Value::from(101)),
        ("method", "GET".into()),
        ("protocol", "HTTP/1.1".into()),
        ("direction", direction.into()),
        ("backend", backend.into()),
        ("attempts", 1.into()),
        ("flags", Value::Null),
        ("reason", Value::Null),
    ] {
        assert_eq!(line[field], wanted, "{field}: {line}");
    }
    let line = http.logged("/refuse");
    assert_eq!((&line["status"], &line["flags"]), (&403.into(), &Value::Null), "{line}");
}
by_every_way!(library: Ebpf, Iptables);

/// A server that does not switch answers as to any request, and so the connection goes on; also to a switch.
fn refused(way: Way, mode: Mode) {
    require!(@ tool("websockets", "python"));
    let http = Http::before(PORT, way, mode, |config| config);
    let _server = websocket_server(&http);
    let upgrade = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
    };
    // A close of one byte's mask and the code 1000, and the server's answer to it.
    let close = "\u{88}\u{82}\0\0\0\0\u{3}\u{e8}";
    let steps = json!([upgrade("/refuse"), null, get("/plain"), null, upgrade("/echo"), null, close]);
    let seen = one(&http, steps, "rest");
    let [refused, plain, switched] = &seen["answers"].as_array().unwrap()[..] else { panic!("{seen:#}") };
    assert_eq!((&refused["status"], &refused["body"]), (&403.into(), &"not you\n".into()), "{seen:#}");
    assert_eq!((&plain["status"], &plain["body"]), (&200.into(), &"plain\n".into()), "{seen:#}");
    assert_eq!(switched["status"], 101, "{seen:#}");
    assert_eq!(switched["headers"]["sec-websocket-accept"], "BACScCJPNqyz+UBoqMH89VmURoA=", "{seen:#}");
    assert_eq!((&seen["rest"], &seen["end"]), (&"\u{88}\u{2}\u{3}\u{e8}".into(), &"eof".into()), "{seen:#}");
    assert_eq!(bytes(&http.logged("/echo")), (8, 4));
    assert_eq!(http.logged("/refuse")["status"], 403);
}
by_every_way!(refused: Ebpf, Iptables);

/// What a client sends behind its request for a switch waits until the server has switched, and comes then.
fn early_bytes(way: Way, mode: Mode) {
    let http = Http::before(PORT, way, mode, |config| config);
    let mut server = Scripted::start(
        &http,
        &json!({"/late": [["look", 0.5], SWITCHED, ["echo", 5], "and more", ["hold"]]}),
    );
    let seen = one(&http, json!([format!("{}early", upgrade("/late")), null, 13]), 0);
    assert_eq!(seen["answers"][0]["status"], 101, "{seen:#}");
    assert_eq!(seen["answers"][1], "earlyand more", "{seen:#}");
    let told = server.told("/late");
    assert_eq!((&told["early"], &told["received"], &told["end"]), (&0.into(), &5.into(), &"eof".into()));
    assert_eq!(bytes(&http.logged("/late")), (5, 13));
}
by_every_way!(early_bytes: Ebpf, Iptables);

/// A server's first bytes may come with its answer.
fn first_bytes(way: Way, mode: Mode) {
    let http = Http::before(PORT, way, mode, |config| config);
    let script = json!([format!("{SWITCHED}first"), ["echo", 5]]);
    let mut server = Scripted::start(&http, &json!({"/first": script}));
    let seen = one(&http, json!([upgrade("/first"), null, 5, "hello", 5]), "rest");
    let answers = &seen["answers"];
    assert_eq!((&answers[1], &answers[2]), (&"first".into(), &"hello".into()), "{seen:#}");
    assert_eq!((&seen["rest"], &seen["end"]), (&"".into(), &"eof".into()), "{seen:#}");
    assert_eq!(server.told("/first")["received"], 5);
    let line = http.logged("/first");
    assert_eq!((bytes(&line), &line["flags"]), ((5, 10), &Value::Null), "{line}");
}
by_every_way!(first_bytes: Ebpf, Iptables);

/// A client resets its tunnel: the server hears of an end, and the log has what went before.
fn client_resets(way: Way, mode: Mode) {
    let http = Http::before(PORT, way, mode, |config| config);
    let mut server = Scripted::start(&http, &json!({"/left": [SWITCHED, ["echo", 5], ["hold"]]}));
    let seen = one(&http, json!([upgrade("/left"), null, "hello", 5]), "reset");
    assert_eq!(seen["answers"][1], "hello", "{seen:#}");
    let told = server.told("/left");
    assert!(told["end"] == "reset" || told["end"] == "eof", "{told}");
    let line = http.logged("/left");
    assert_eq!(
        (&line["status"], &line["flags"], bytes(&line)),
        (&101.into(), &"DC".into(), (5, 5)),
        "{line}"
    );
}
by_every_way!(client_resets: Ebpf, Iptables);

/// A server resets its tunnel: so does the sidecar, and the log has what went before.
fn server_resets(way: Way, mode: Mode) {
    let http = Http::before(PORT, way, mode, |config| config);
    let script = json!([SWITCHED, ["echo", 5], ["read", 1], ["reset"]]);
    let _server = Scripted::start(&http, &json!({"/reset": script}));
    let seen = one(&http, json!([upgrade("/reset"), null, "hello", 5, "!"]), "rest");
    assert_eq!((&seen["answers"][1], &seen["rest"]), (&"hello".into(), &"".into()), "{seen:#}");
    assert_ne!(seen["end"], "timeout", "{seen:#}");
    let line = http.logged("/reset");
    assert_eq!(
        (&line["status"], &line["flags"], bytes(&line)),
        (&101.into(), &"UC".into(), (6, 5)),
        "{line}"
    );
}
by_every_way!(server_resets: Ebpf, Iptables);

/// A tunnel that goes on when the drain is over ends then, and the log has what went before. Behind a listener both ends are
/// others than the application, which ends with the sidecar.
fn drained(mode: Mode) {
    let mut http = Http::before(PORT, Way::Listener, mode, |config| config.with("timeouts.drain", "500ms"));
    let script = json!([SWITCHED, ["echo", 5], ["read", 1], ["say", "came"], ["hold"]]);
    let mut server = Scripted::start(&http, &json!({"/drained": script}));
    let (host, port) = http.way.reached(PORT);
    let steps = json!([upgrade("/drained"), null, "hello", 5, "!"]);
    let case = json!([{"name": "drained", "steps": steps, "answers": "rest"}]).to_string();
    let mut client = python(&http.from(), "http_client.py");
    let mut client = Program::start(client.args(["cases", host, &port.to_string(), &case]));
    server.says("came");
    http.sidecar.terminate();
    let seen: Value = serde_json::from_str(&client.wait().success()).unwrap();
    assert_eq!((&seen["answers"][1], &seen["rest"]), (&"hello".into(), &"".into()), "{seen:#}");
    assert_ne!(seen["end"], "timeout", "{seen:#}");
    let line = http.logged("/drained");
    assert_eq!(
        (&line["status"], &line["flags"], bytes(&line)),
        (&101.into(), &"LR".into(), (6, 5)),
        "{line}"
    );
}
in_modes!(drained: Ebpf);

/// A tunnel ends that is silent for `timeouts.idle`, and not before: bytes either way keep it.
fn idle(way: Way, mode: Mode) {
    let http = Http::before(PORT, way, mode, |config| config.with("timeouts.idle", "3s"));
    let pause = json!(["look", 1.2]);
    let script = json!([SWITCHED, "a", pause, "b", pause, "c", pause, "d", ["hold"]]);
    let mut server = Scripted::start(&http, &json!({"/idle": script}));
    let seen = one(&http, json!([upgrade("/idle"), null, 4]), "rest");
    assert_eq!((&seen["answers"][1], &seen["rest"]), (&"abcd".into(), &"".into()), "{seen:#}");
    assert_ne!(seen["end"], "timeout", "it goes on: {seen:#}");
    assert_ne!(server.told("/idle")["end"], Value::Null);
    let line = http.logged("/idle");
    assert_eq!(
        (&line["status"], &line["flags"], bytes(&line)),
        (&101.into(), &"SI".into(), (0, 4)),
        "{line}"
    );
}
by_every_way!(idle: Ebpf);

/// CONNECT is refused, also in HTTP/1.1 to a server that would take it; where it is allowed, what is captured goes on as it was
/// meant (RFC 9110 section 9.3.6).
fn connect(mode: Mode) {
    const FAR: &str = "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n";
    let scripts = json!({
        "far.example:443": ["HTTP/1.1 200 Connected\r\nContent-Length: 9\r\n\r\n", ["echo", 5], ["hold"]],
        "/plain": ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
    });
    let http = Http::before(PORT, Way::Outbound, mode, |config| config);
    let _server = Scripted::start(&http, &scripts);
    let seen = one(&http, json!([FAR, null, get("/plain"), null]), 0);
    let statuses: Vec<_> = seen["answers"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, [405, 200], "{seen:#}");
    assert_eq!(seen["answers"][0]["headers"]["x-sidecar-reason"], "connect-not-allowed", "{seen:#}");

    let http = Http::before(PORT, Way::Outbound, mode, |config| config.with("allowConnect", true));
    let mut server = Scripted::start(&http, &scripts);
    let seen = one(&http, json!([FAR, null, "hello", 5]), 0);
    let answers = &seen["answers"];
    assert_eq!((&answers[0]["status"], &answers[1]), (&200.into(), &"hello".into()), "{seen:#}");
    assert_eq!(answers[0]["headers"]["content-length"], Value::Null, "{seen:#}");
    assert_eq!(server.told("far.example:443")["received"], 5);
    let line = http.logged("");
    assert_eq!(
        (&line["method"], &line["status"], bytes(&line)),
        (&"CONNECT".into(), &200.into(), (5, 5)),
        "{line}"
    );
}
in_modes!(connect: Ebpf);
