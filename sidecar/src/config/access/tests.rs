use std::path::PathBuf;
use std::time::Duration;

use super::super::{Config, TargetRef};
use super::*;

const HEAD: &str = "apiVersion: sidecar.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: own, namespace: a}\nspec:\n  \
                    targetRefs: [{group: sidecar.dev, kind: Inbound, port: 8080}]\n";

/// The contract by example.
const EXAMPLE: &str = r#"  jwt:
  - issuer: https://issuer.example.com
    audiences: [reviews]
    jwks: {file: /etc/sidecar/jwks.json}       # or {uri: "http://...", refresh: 5m}
    clockSkew: 30s
    claimToHeaders: [{claim: sub, header: x-user}]
  tokens:                       # static bearer tokens, for callers without an issuer
  - {name: batch, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
  externalAuthorization: {http: {url: "http://127.0.0.1:9000/check", headers: [authorization], timeout: 500ms, failOpen: false}}
  rules:                        # DENY before ALLOW; with at least one ALLOW, what matches none is refused (403)
  - {action: DENY, from: {sources: ["10.9.0.0/16"]}}
  - {action: ALLOW, to: {methods: [GET], paths: ["/api/*"]}, when: {claims: {role: [reader, admin]}}}
  - {action: ALLOW, to: {paths: ["/public/*"]}, unauthenticated: true}
"#;

fn parse(spec: &str) -> AccessPolicy {
    let config = Config::parse(&format!("{HEAD}{spec}"), "f").unwrap_or_else(|errors| panic!("{errors}"));
    config.access.into_iter().next().unwrap()
}

/// The errors of a spec, which begins on line 6.
fn errors(spec: &str) -> Vec<String> {
    match Config::parse(&format!("{HEAD}{spec}"), "f") {
        Ok(config) => panic!("accepted: {:?}", config.access),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn the_example_is_read() {
    let policy = parse(EXAMPLE);
    assert_eq!(policy.name.to_string(), "a/own");
    assert_eq!(policy.targets, [TargetRef::Inbound(8080)]);

    let [jwt] = policy.jwt.as_slice() else { panic!("{:?}", policy.jwt) };
    let refresh = Duration::from_secs(300);
    assert_eq!(jwt.jwks, Jwks::File { path: PathBuf::from("/etc/sidecar/jwks.json"), refresh });
    assert_eq!(
        (jwt.issuer.as_str(), jwt.audiences.as_slice()),
        ("https://issuer.example.com", &["reviews".to_owned()][..])
    );
    assert_eq!((jwt.clock_skew, jwt.forward), (Duration::from_secs(30), true));
    assert_eq!(
        (jwt.from_headers[0].name.as_str(), jwt.from_headers[0].prefix.as_str()),
        ("authorization", "Bearer ")
    );
    assert_eq!(jwt.claim_to_headers[0].header, "x-user");

    assert_eq!(
        (policy.tokens[0].name.as_str(), policy.tokens[0].sha256[..2].to_vec()),
        ("batch", vec![0x9f, 0x86])
    );
    let http = policy.external_authorization.map(|external| external.http).unwrap();
    assert_eq!(
        (http.url.path(), http.timeout, http.fail_open),
        ("/check", Duration::from_millis(500), false)
    );
    let [deny, role, public] = policy.rules.as_slice() else { panic!("{:?}", policy.rules) };
    assert_eq!((deny.action, deny.from.sources[0].to_string()), (Action::Deny, "10.9.0.0/16".to_owned()));
    assert_eq!(role.when.claims["role"], ["admin", "reader"]);
    assert_eq!((role.to.paths[0].to_string(), role.to.methods[0].as_str()), ("/api/*".to_owned(), "GET"));
    assert!(public.unauthenticated && !role.unauthenticated);
    assert!(!policy.path_normalization.allow_encoded_slashes);
}

#[test]
fn every_wrong_value_is_reported_with_its_place_and_remedy() {
    let found = errors(
        r#"  jwt:
  - issuer: ""
    jwks: {file: /a, uri: "http://a"}
    clockSkew: 1
    claimToHeaders: [{claim: sub, header: Host}, {claim: sub, header: authorization}]
  - issuer: a
    jwks: {uri: "https://a/keys", caCertificates: /nowhere/ca.pem}
  - issuer: b
    jwks: {inline: '{"keys": []}', refresh: 1m}
  tokens: [{name: a, sha256: 00}]
  externalAuthorization: {http: {url: "http://u:p@a", timeout: 0s}}
  pathNormalization: {allowEncodedSlashes: maybe}
  rules:
  - {action: allow}
  - {action: DENY, unauthenticated: true}
  - {action: ALLOW, unauthenticated: true, when: {claims: {role: [a]}}}
  - {action: ALLOW, from: {sources: []}, to: {methods: [get], paths: [a, "*a*"], hosts: ["a:80"], ports: [0]}}
  - {action: ALLOW, when: {claims: {role: []}, headers: {"x y": [a], a: [""]}}}
"#,
    );
    let expected = [
        r#"f:7: spec.jwt[0].issuer: "": write 1 to 1024 bytes without control characters"#,
        "f:8: spec.jwt[0].jwks: write exactly one of file, uri and inline",
        r#"f:9: spec.jwt[0].clockSkew: "1": write a duration"#,
        r#"f:10: spec.jwt[0].claimToHeaders[0].header: "Host": belongs to the connection or frames the message"#,
        r#"f:10: spec.jwt[0].claimToHeaders[1].header: "authorization": carries the token itself; write another header"#,
        r#"f:12: spec.jwt[1].jwks.caCertificates: "/nowhere/ca.pem": cannot read: No such file"#,
        "f:14: spec.jwt[2].jwks.inline: \"{\\\"keys\\\": []}\": has no public RSA",
        r#"f:14: spec.jwt[2].jwks.refresh: "1m": is for file and uri; leave it out"#,
        r#"f:15: spec.tokens[0].sha256: "00": write the token's SHA-256 as 64 hexadecimal digits"#,
        r#"f:16: spec.externalAuthorization.http.url: "http://u:p@a": has a user or password; leave them out"#,
        r#"f:16: spec.externalAuthorization.http.timeout: "0s": must be longer than 0s"#,
        r#"f:17: spec.pathNormalization.allowEncodedSlashes: "maybe": write true or false"#,
        r#"f:19: spec.rules[0].action: "allow": write ALLOW or DENY"#,
        r#"f:20: spec.rules[1].unauthenticated: "true": is for ALLOW rules; leave it out"#,
        r#"f:21: spec.rules[2].unauthenticated: "true": a rule with principals or claims needs an identity"#,
        "f:22: spec.rules[3].from.sources: is empty; write at least one value, or leave it out",
        r#"f:22: spec.rules[3].to.methods[0]: "get": write a method in upper case"#,
        r#"f:22: spec.rules[3].to.paths[0]: "a": write a path that begins with / or *"#,
        r#"f:22: spec.rules[3].to.paths[1]: "*a*": has a *"#,
        r#"f:22: spec.rules[3].to.hosts[0]: "a:80": write a host without port"#,
        r#"f:22: spec.rules[3].to.ports[0]: "0": write a port from 1 to 65535"#,
        "f:23: spec.rules[4].when.claims.role: is empty; write at least one value",
        "f:23: spec.rules[4].when.headers.x y: write the name of a header",
        r#"f:23: spec.rules[4].when.headers.a[0]: "": is empty"#,
    ];
    for start in expected {
        assert!(found.iter().any(|line| line.starts_with(start)), "{start}\nnot in\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
}

#[test]
fn a_wrong_shape_names_the_field() {
    let found = errors("  rules:\n  - {action: ALLOW, too: {}}\n");
    assert!(
        found[0].starts_with("f:7: spec.rules[0].too: unknown field; the fields here are action, "),
        "{found:?}"
    );
    let found = errors("  jwt: [{issuer: a}]\n");
    assert_eq!(found, ["f:6: spec.jwt[0].jwks: is required"]);
    let found = errors("  rule: []\n");
    assert!(
        found[0].starts_with("f:6: spec.rule: unknown field; the fields here are targetRefs, jwt, "),
        "{found:?}"
    );
}

#[test]
fn names_are_distinct_and_targets_there() {
    let twice = Config::parse(&format!("{HEAD}---\n{HEAD}"), "f").map_err(|errors| errors.to_string());
    let why =
        r#"f:9: metadata.name: "own": there is an AccessPolicy of this name already, at f:3; rename one"#;
    assert_eq!(twice.err().as_deref(), Some(why));
    let other = HEAD.replace("namespace: a", "namespace: b");
    assert!(Config::parse(&format!("{HEAD}---\n{other}"), "f").is_ok());

    let missing = HEAD.replace("kind: Inbound, port: 8080", "kind: Listener, name: front");
    let found = Config::parse(&missing, "f").map_err(|errors| errors.to_string());
    let why = r#"f:3: spec.targetRefs[0].name: "front": there is no Listener of this name; add one"#;
    assert_eq!(found.err().as_deref(), Some(why));
}

#[test]
fn lists_are_bounded() {
    let rule = "  - {action: DENY}\n";
    assert_eq!(parse(&format!("  rules:\n{}", rule.repeat(256))).rules.len(), 256);
    let found = errors(&format!("  rules:\n{}", rule.repeat(257)));
    assert_eq!(found, ["f:263: spec.rules: 257 are more than 256; leave some out"]);
    let paths = vec!["/a"; 257].join(", ");
    let found = errors(&format!("  rules: [{{action: DENY, to: {{paths: [{paths}]}}}}]\n"));
    assert_eq!(found, ["f:6: spec.rules[0].to.paths: 257 are more than 256; leave some out"]);
}

#[test]
fn the_dump_tells_no_hash() {
    let dump = serde_json::json!(parse(EXAMPLE));
    assert_eq!(dump["tokens"], serde_json::json!([{"name": "batch"}]));
    assert_eq!(dump["rules"][1]["to"]["paths"][0], "/api/*");
    assert_eq!(dump["rules"][0]["action"], "DENY");
    assert_eq!(dump["jwt"][0]["clockSkew"], "30s");
}
