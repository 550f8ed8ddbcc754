//! `externalAuthorization`

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{Mode, PEER4, Program, in_modes, python};

use super::super::Way;
use super::super::documents::access;
use super::super::scene::{BACKENDS, Scene};
use super::started;

const PORT: u16 = 9500;

fn policy(way: Way, port: u16, more: &[(&str, Value)]) -> Value {
    let mut http = json!({
        "url": format!("http://{PEER4}:{port}/check"),
        "headers": ["authorization", "x-tenant"],
        "allowedUpstreamHeaders": ["x-user"],
        "timeout": "2s",
    });
    for (name, value) in more {
        http[name] = value.clone();
    }
    let rules = json!([{"action": "DENY", "to": {"paths": ["/never"]}}]);
    access("ask", way.target(), json!({"externalAuthorization": {"http": http}, "rules": rules}))
}

fn authorizer(scene: &Scene) -> Program {
    let mut program = Program::start(python(&scene.net.peer.place(), "authorizer.py").arg(PORT.to_string()));
    program.wait_for_output("listening");
    program
}

#[track_caller]
fn asks(way: Way, mode: Mode) {
    let scene = started(way, mode, [policy(way, PORT, &[])]);
    let mut authorizer = authorizer(&scene);
    let ask = |path: &str, word: &str| {
        let word = format!("Bearer {word}");
        let fields = [("authorization", &*word), ("x-tenant", "7"), ("x-private", "1"), ("x-user", "root")];
        scene.get_with(path, &[&fields[..], &[("x-forwarded-uri", "/public")]].concat())
    };
    let allowed = ask("/path?query", "allow");
    allowed.is_of(BACKENDS[0], 200);
    let headers = allowed.asked()["headers"].take();
    assert_eq!((&headers["x-user"], &headers["x-secret"]), (&"ann".into(), &Value::Null), "{headers:#}");
    let asked = authorizer.wait_for_output("\"target\"");
    let question: Value = serde_json::from_str(asked.lines().last().unwrap()).unwrap();
    for (name, value) in [
        ("target", "/check"),
        ("authorization", "Bearer allow"),
        ("x-tenant", "7"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/path?query"),
        ("x-forwarded-host", "web"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(question[name], value, "{name}: {question:#}");
    }
    assert_eq!(question["x-private"], Value::Null, "{question:#}");

    let denied = ask("/denied", "deny");
    denied.is_own(403, "external-authorization");
    assert_eq!((denied.field("x-why"), denied.body()), (Some("because"), "not you"));
    assert_eq!(scene.logged("/denied")["flags"], "UAEX");
    let login = ask("/login", "login");
    login.is_own(302, "external-authorization");
    assert_eq!(login.field("location"), Some("http://login.example.com/"));
    ask("/broken", "broken").is_own(403, "external-authorization");
    ask("/silent", "silent").is_own(403, "external-authorization");
    assert!(scene.logged("/silent")["durationMs"].as_f64().unwrap() >= 2000.0);
    // What the rules refuse nobody is asked about.
    ask("/never", "allow").is_own(403, "access-denied");
    assert!(!authorizer.stdout().contains("/never"), "{}", authorizer.stdout());
    assert_eq!(scene.seen(BACKENDS[0]).len(), 1);
}
by_every_way!(asks: Ebpf, Iptables);

/// Where it says nothing, the policy does.
fn fail_open(mode: Mode) {
    let way = Way::Outbound;
    let open = [("failOpen", json!(true)), ("timeout", json!("300ms"))];
    let scene = started(way, mode, [policy(way, PORT, &open)]);
    let ask =
        |word: &str| scene.get_with("/", &[("authorization", &format!("Bearer {word}")), ("x-user", "root")]);
    // Nobody is there.
    ask("allow").is_of(BACKENDS[0], 200);
    let _authorizer = authorizer(&scene);
    for word in ["silent", "broken"] {
        let reply = ask(word);
        reply.is_of(BACKENDS[0], 200);
        assert_eq!(
            reply.asked()["headers"]["x-user"],
            Value::Null,
            "{word}: only the authorizer may say that"
        );
    }
    ask("deny").is_own(403, "external-authorization");
}
in_modes!(fail_open: Ebpf);

fn fail_closed(mode: Mode) {
    let way = Way::Outbound;
    let scene = started(way, mode, [policy(way, PORT, &[])]);
    scene.get("/").is_own(403, "external-authorization");
    assert!(scene.seen(BACKENDS[0]).is_empty());
}
in_modes!(fail_closed: Ebpf);
