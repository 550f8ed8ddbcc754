//! DENY before ALLOW, and one form for each path.

use crate::http::by_every_way;
use serde_json::json;
use sidecar_tests::{Mode, in_modes};

use super::super::Way;
use super::super::documents::access;
use super::super::scene::{BACKENDS, request};
use super::started;

/// Method, path, fields of the header, and the status for it.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u64);

#[track_caller]
fn deny_before_allow(way: Way, mode: Mode) {
    let policy = json!({"rules": [
        {"action": "ALLOW", "to": {"methods": ["GET"], "paths": ["/api/*"]}},
        {"action": "ALLOW", "to": {"hosts": ["*.example.com"]}},
        {"action": "ALLOW", "when": {"headers": {"x-team": ["red*"]}}},
        {"action": "DENY", "to": {"paths": ["/api/secret*"]}},
        {"action": "DENY", "when": {"headers": {"x-evil": ["*"]}}},
        {"action": "DENY", "from": {"sources": ["192.0.2.0/24"]}},
    ]});
    let scene = started(way, mode, [access("rules", way.target(), policy)]);
    let cases: [Case<'_>; 10] = [
        ("GET", "/api/x", &[], 200),
        ("POST", "/api/x", &[], 403),
        ("GET", "/api", &[], 403),
        ("GET", "/api/secrets", &[], 403),
        ("GET", "/other", &[], 403),
        ("POST", "/other", &[("Host", "A.example.com:80")], 200),
        ("GET", "/other", &[("x-team", "red-1")], 200),
        ("GET", "/other", &[("x-team", "blue")], 403),
        ("GET", "/api/x", &[("x-evil", "")], 403),
        ("GET", "/api/secret", &[("x-team", "red"), ("Host", "a.example.com")], 403),
    ];
    for (method, path, fields, status) in cases {
        let reply = scene.one(&request(method, path, fields));
        assert_eq!(reply.status(), status, "{method} {path} {fields:?}: {:#}", reply.0);
        if status == 403 {
            reply.is_own(403, "access-denied");
        }
    }
    let line = scene.logged("/api/secrets");
    assert_eq!((&line["flags"], &line["reason"]), (&"UAEX".into(), &"access-denied".into()), "{line}");
}
by_every_way!(deny_before_allow: Ebpf, Iptables);

/// However a path is disguised, the rules see what the server sees.
#[track_caller]
fn disguised(way: Way, mode: Mode) {
    let policy = json!({"rules": [{"action": "DENY", "to": {"paths": ["/secret", "/secret/*"]}}]});
    let scene = started(way, mode, [access("rules", way.target(), policy)]);
    for path in [
        "/secret",
        "//secret",
        "/./secret",
        "/x/../secret",
        "/%73ecret",
        "/x/%2e%2e/secret",
        "/%2E/secret",
        "/secret/",
        "/secret/x",
        "/secret//x",
        "///x//..//secret?query",
        "/secret/%2e/",
    ] {
        let reply = scene.get(path);
        assert_eq!(reply.status(), 403, "{path}: {:#}", reply.0);
        reply.is_own(403, "access-denied");
    }
    for path in [
        "/x%2fsecret",
        "/x%2F..%2Fsecret",
        "/x%5csecret",
        "/x\\secret",
        "/secret%00",
        "/%zz",
        "/secret%",
        "/x/..;x/secret",
    ] {
        let reply = scene.get(path);
        assert_eq!(reply.status(), 400, "{path}: {:#}", reply.0);
        reply.is_own(400, "ambiguous-path");
    }
    assert_eq!(scene.logged("/%zz")["flags"], "DPE");
    assert!(scene.seen(BACKENDS[0]).is_empty());
    // The server gets the form that was asked about.
    for (path, form) in [
        ("/open//x/./y", "/open/x/y"),
        ("/secret/../open/%7Euser?a=%2F..", "/open/~user?a=%2F.."),
        ("/Secret", "/Secret"),
        ("/open/%e4", "/open/%E4"),
    ] {
        assert_eq!(scene.get(path).asked()["target"], form, "{path}");
    }
}
by_every_way!(disguised: Ebpf, Iptables);

fn encoded_slashes(mode: Mode) {
    let way = Way::Inbound;
    let policy = json!({
        "rules": [{"action": "DENY", "to": {"paths": ["/secret*"]}}],
        "pathNormalization": {"allowEncodedSlashes": true},
    });
    let scene = started(way, mode, [access("rules", way.target(), policy)]);
    assert_eq!(scene.get("/x%2fsecret").asked()["target"], "/x%2Fsecret");
    scene.get("/secret%2fx").is_own(403, "access-denied");
    scene.get("/x%00").is_own(400, "ambiguous-path");
}
in_modes!(encoded_slashes: Ebpf);

/// Who is refused by where they come from is so also through a proxy that says otherwise.
fn by_source(mode: Mode) {
    let way = Way::Inbound;
    let policy = json!({"rules": [{"action": "DENY", "from": {"sources": ["10.7.0.2/32"]}}]});
    let scene = started(way, mode, [access("rules", way.target(), policy)]);
    scene.get_with("/", &[("x-forwarded-for", "10.7.0.9")]).is_own(403, "access-denied");
}
in_modes!(by_source: Ebpf);
