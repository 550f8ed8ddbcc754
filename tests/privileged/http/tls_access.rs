//! Key sets and authorizers by https.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sidecar_tests::{Authority, Finished, Mode, PEER4, in_modes};

use super::tls_upstream::{Tls, backend};

/// nginx with TLS and without.
const SECRET: u16 = 8443;
const PLAIN: u16 = 8080;

const ISSUER: &str = "https://issuer.test";

/// A backend without TLS, whose listener's name ends in this number plus the first listener's port.
fn plain() -> Value {
    let mut spec = backend(PLAIN, "auto", Value::Null);
    spec.as_object_mut().unwrap().remove("tls");
    spec
}

fn on_listener(number: u16, policy: Value) -> Value {
    let mut policy = policy;
    policy["targetRefs"] =
        json!([{"group": "sidecar.dev", "kind": "Listener", "name": format!("l{}", 9001 + number)}]);
    policy
}

/// base64url without padding (RFC 4648, section 5).
fn base64(files: &Path, bytes: &[u8]) -> String {
    let raw = files.join("raw");
    std::fs::write(&raw, bytes).unwrap();
    let text = Finished::of(Command::new("openssl").args(["base64", "-A", "-in"]).arg(raw)).success();
    text.trim().replace('+', "-").replace('/', "_").replace('=', "")
}

/// A token of the issuer, and its key set.
fn token() -> (String, String) {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path();
    let [key, public, input, signature] =
        ["key", "public", "input", "signature"].map(|name| files.join(name));
    let openssl = |args: &[&str], rest: &[&Path]| {
        let mut command = Command::new("openssl");
        let mut rest = rest.iter();
        for arg in args {
            // `@` is the next file.
            if *arg == "@" {
                command.arg(rest.next().unwrap())
            } else {
                command.arg(arg)
            };
        }
        Finished::of(&mut command).success();
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "@"], &[&key]);
    openssl(&["pkey", "-in", "@", "-pubout", "-outform", "DER", "-out", "@"], &[&key, &public]);
    let head = base64(files, br#"{"alg":"EdDSA","kid":"1"}"#);
    let claims = json!({"iss": ISSUER, "sub": "me", "exp": 4_000_000_000_u64});
    let signed = format!("{head}.{}", base64(files, claims.to_string().as_bytes()));
    std::fs::write(&input, &signed).unwrap();
    openssl(
        &["pkeyutl", "-sign", "-rawin", "-inkey", "@", "-in", "@", "-out", "@"],
        &[&key, &input, &signature],
    );
    let signature = base64(files, &std::fs::read(signature).unwrap());
    // The key is the end of its DER (RFC 8410, section 4).
    let public = std::fs::read(public).unwrap();
    let x = base64(files, &public[public.len() - 32..]);
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]});
    (format!("{signed}.{signature}"), keys.to_string())
}

/// Keys come from a server that is believed. Of another one no key is taken, so that no token is good.
fn key_sets(mode: Mode) {
    let (ca, other) = (Authority::new(), Authority::new());
    let (token, keys) = token();
    let believed = ca.certificate();
    let policy = |number: u16, certificates: Value| {
        let uri = format!("https://{PEER4}:{SECRET}/keys");
        let mut jwks = json!({"uri": uri, "refresh": "1s"});
        if !certificates.is_null() {
            jwks["caCertificates"] = certificates;
        }
        on_listener(
            number,
            json!({"jwt": [{"issuer": ISSUER, "jwks": jwks}], "rules": [{"action": "ALLOW"}]}),
        )
    };
    let server = ca.issue("server", "IP:10.7.0.2");
    let tls = Tls::start(mode, &server, &believed, &[plain(), plain(), plain()], |config| {
        config
            .with_object("AccessPolicy", "good", policy(0, json!(&believed)))
            .with_object("AccessPolicy", "other", policy(1, json!(other.certificate())))
            .with_object("AccessPolicy", "system", policy(2, Value::Null))
    });
    tls.serve_keys(&keys);
    let token = format!("authorization: Bearer {token}");
    tls.eventually(0, &["-H", &token], 200);
    assert_eq!(tls.ask(0, "/", &[]).0, 401, "without a token");
    for number in [1, 2] {
        assert_eq!(tls.ask(number, "/", &["-H", &token]).0, 401, "{number}");
    }
    let seen = tls.seen_by_server();
    assert!(seen.contains("/keys TLSv1.3"), "{seen}");
}
in_modes!(key_sets: Ebpf);

/// An authorizer that is believed decides; for another one, nobody passes.
fn authorizers(mode: Mode) {
    let (ca, other) = (Authority::new(), Authority::new());
    let believed = ca.certificate();
    let policy = |number: u16, path: &str, certificates: &Path| {
        let url = format!("https://{PEER4}:{SECRET}/{path}");
        let http = json!({"url": url, "caCertificates": certificates, "timeout": "5s"});
        on_listener(number, json!({"externalAuthorization": {"http": http}}))
    };
    let server = ca.issue("server", "IP:10.7.0.2");
    let tls = Tls::start(mode, &server, &believed, &[plain(), plain(), plain()], |config| {
        config
            .with_object("AccessPolicy", "allows", policy(0, "allow", &believed))
            .with_object("AccessPolicy", "refuses", policy(1, "refuse", &believed))
            .with_object("AccessPolicy", "other", policy(2, "other", &other.certificate()))
    });
    for _ in 0..2 {
        assert_eq!(tls.ask(0, "/", &[]).0, 200);
        let refused = tls.ask(1, "/", &[]);
        assert_eq!((refused.0, refused.2.as_str()), (403, "no"));
        assert_eq!(tls.ask(2, "/", &[]).0, 403);
    }
    let seen = tls.seen_by_server();
    assert!(seen.contains("/allow TLSv1.3") && !seen.contains("/other"), "{seen}");
}
in_modes!(authorizers: Ebpf);
