//! Tokens: who is let in, and what the server hears of them.

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{Mode, in_modes};

use super::super::Way;
use super::super::documents::access;
use super::super::scene::{BACKENDS, get};
use super::{ISSUER, Tokens, claims, started};

fn tokens() -> Tokens {
    let keys = json!({"rsa": "RS256", "ec": "ES256", "ed": "EdDSA", "strange": "EdDSA"});
    let of = |key: &str, more: Value| json!([key, claims(more)]);
    let with_header = |header: Value| json!(["ed", claims(json!({})), header]);
    let tokens = json!({
        "rs256": of("rsa", json!({})),
        "es256": of("ec", json!({})),
        "eddsa": of("ed", json!({})),
        "several audiences": of("ed", json!({"aud": ["other", "web"]})),
        "just expired": of("ed", json!({"exp": -20})),
        "soon valid": of("ed", json!({"nbf": 20})),
        "expired": of("ed", json!({"exp": -40})),
        "not yet valid": of("ed", json!({"nbf": 300})),
        "no expiry": ["ed", {"iss": ISSUER, "aud": "web", "sub": "ann"}],
        "wrong audience": of("ed", json!({"aud": "other"})),
        "wrong issuer": of("ed", json!({"iss": "https://evil.example.com"})),
        "strange key": of("strange", json!({})),
        "borrowed name": ["strange", claims(json!({})), {"kid": "ed"}],
        "no signature": with_header(json!({"alg": "none"})),
        "another algorithm": with_header(json!({"alg": "RS256"})),
        "shared secret": with_header(json!({"alg": "HS256"})),
        "reader": of("ed", json!({"role": "reader"})),
        "admin": of("ec", json!({"role": ["writer", "admin"]})),
    });
    Tokens::new(keys, tokens)
}

#[track_caller]
fn good_and_bad(way: Way, mode: Mode) {
    let tokens = tokens();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    std::fs::write(&file, tokens.keys(&["rsa", "ec", "ed"])).unwrap();
    let policy = json!({"jwt": [{
        "issuer": ISSUER,
        "audiences": ["web"],
        "jwks": {"file": file},
        "clockSkew": "30s",
        "claimToHeaders": [{"claim": "sub", "header": "x-user"}, {"claim": "role", "header": "x-role"}],
        "forward": false,
    }]});
    let scene = started(way, mode, [access("who", way.target(), policy)]);
    for name in ["rs256", "es256", "eddsa", "several audiences", "just expired", "soon valid"] {
        let token = tokens.bearer(name);
        let reply = scene.get_with("/", &[("authorization", &token), ("x-user", "root"), ("x_user", "root")]);
        assert_eq!(reply.status(), 200, "{name}: {:#}", reply.0);
        // What the client says of itself is gone, and so is the token.
        let headers = reply.asked()["headers"].take();
        assert_eq!((&headers["x-user"], &headers["x_user"]), (&"ann".into(), &Value::Null), "{headers:#}");
        assert_eq!(
            (&headers["x-role"], &headers["authorization"]),
            (&Value::Null, &Value::Null),
            "{headers:#}"
        );
    }
    let came = scene.seen(BACKENDS[0]).len();
    for name in [
        "expired",
        "not yet valid",
        "no expiry",
        "wrong audience",
        "wrong issuer",
        "strange key",
        "borrowed name",
        "no signature",
        "another algorithm",
        "shared secret",
    ] {
        let reply = scene.get_with("/bad", &[("authorization", &tokens.bearer(name))]);
        assert_eq!(reply.status(), 401, "{name}: {:#}", reply.0);
        reply.is_own(401, "unauthenticated");
        assert!(reply.field("www-authenticate").unwrap().contains("invalid_token"), "{name}: {:#}", reply.0);
    }
    let mut cut = tokens.bearer("eddsa");
    cut.pop();
    for token in [&*cut, "Bearer a.b.c", "Bearer x"] {
        scene.get_with("/bad", &[("authorization", token)]).is_own(401, "unauthenticated");
    }
    let none = scene.get("/none");
    none.is_own(401, "unauthenticated");
    assert_eq!(none.field("www-authenticate"), Some("Bearer realm=\"sidecar\""));
    let two = [("authorization", &*tokens.bearer("eddsa")), ("authorization", &*tokens.bearer("es256"))];
    scene.get_with("/two", &two).is_own(401, "unauthenticated");
    assert_eq!(scene.logged("/bad")["flags"], "UAEX");
    assert_eq!(scene.seen(BACKENDS[0]).len(), came);
}
by_every_way!(good_and_bad: Ebpf, Iptables);

/// Who is known but may not is told so by 403.
#[track_caller]
fn by_claims(way: Way, mode: Mode) {
    let tokens = tokens();
    let role = |role: &[&str], path: &str| json!({"action": "ALLOW", "to": {"paths": [path]}, "when": {"claims": {"role": role}}});
    let policy = json!({
        "jwt": [{"issuer": ISSUER, "jwks": {"inline": tokens.keys(&["ec", "ed"])}}],
        "tokens": [{"name": "batch", "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}],
        "rules": [
            role(&["reader", "admin"], "/read/*"),
            role(&["admin"], "/admin/*"),
            {"action": "ALLOW", "from": {"principals": ["tokens/batch"]}, "to": {"paths": ["/batch"]}},
            {"action": "ALLOW", "to": {"paths": ["/public/*"]}, "unauthenticated": true},
        ],
    });
    let scene = started(way, mode, [access("who", way.target(), policy)]);
    let (reader, admin, nobody) = (tokens.bearer("reader"), tokens.bearer("admin"), tokens.bearer("eddsa"));
    for (path, token, status) in [
        ("/read/x", &*reader, 200),
        ("/read/x", &admin, 200),
        ("/read/x", &nobody, 403),
        ("/read/x", "", 401),
        ("/admin/x", &admin, 200),
        ("/admin/x", &reader, 403),
        ("/batch", "Bearer test", 200),
        ("/batch", "Bearer tests", 401),
        ("/batch", &admin, 403),
        ("/read/x", "Bearer test", 403),
        ("/public/x", "", 200),
        ("/public/x", &reader, 200),
        ("/public/x", "Bearer wrong", 401),
        ("/other", "", 401),
        ("/other", &admin, 403),
    ] {
        let fields = [("authorization", token)];
        let reply = scene.get_with(path, if token.is_empty() { &[] } else { &fields });
        assert_eq!(reply.status(), status, "{path} {token}: {:#}", reply.0);
        if status == 403 {
            reply.is_own(403, "access-denied");
            assert!(reply.field("www-authenticate").unwrap().contains("insufficient_scope"), "{:#}", reply.0);
        }
    }
}
by_every_way!(by_claims: Ebpf, Iptables);

/// Of two policies for one target, either may know who asks.
fn two_issuers(mode: Mode) {
    let way = Way::Inbound;
    let keys = json!({"one": "EdDSA", "two": "EdDSA"});
    let other = "https://other.example.com";
    let tokens = Tokens::new(
        keys,
        json!({
            "one": ["one", claims(json!({}))],
            "two": ["two", claims(json!({"iss": other}))],
            "crossed": ["two", claims(json!({}))],
        }),
    );
    let of = |issuer: &str, key: &str| json!({"jwt": [{"issuer": issuer, "jwks": {"inline": tokens.keys(&[key])}}]});
    let policies =
        [access("one", way.target(), of(ISSUER, "one")), access("two", way.target(), of(other, "two"))];
    let scene = started(way, mode, policies);
    let texts = ["one", "two", "crossed"].map(|name| get("/", &[("authorization", &tokens.bearer(name))]));
    let statuses: Vec<u64> = scene.all(&texts).iter().map(super::super::scene::Reply::status).collect();
    assert_eq!(statuses, [200, 200, 401]);
}
in_modes!(two_issuers: Ebpf);
