use ring::hmac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::signer::base64;
use super::*;
use crate::policy::access::jwt::Unverified;
use crate::policy::access::keys::KeySet;

const ALICE: &str = "https://issuer.example.com/alice";

fn refused(reason: &'static str) -> Result<String, (u16, &'static str)> {
    Err((401, reason))
}

#[test]
fn every_algorithm_verifies() {
    let fixture = Fixture::with_jwt("", "");
    let cases = [
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed25519"),
    ];
    for (alg, kid) in cases {
        for kid in [Some(kid), None] {
            let token = fixture.signer.sign(alg, kid, &claims(json!({})));
            assert_eq!(fixture.bearer(&token, NOW).as_deref(), Ok(ALICE), "{alg} {kid:?}");
        }
    }
}

#[test]
fn the_token_does_not_choose_how_its_key_is_used() {
    let fixture = Fixture::with_jwt("", "");
    let signer = &fixture.signer;
    let body = base64(claims(json!({})).to_string());

    for alg in ["none", "None", "NONE", "nOnE"] {
        let header = base64(json!({"alg": alg, "kid": "rsa"}).to_string());
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{body}.{signature}");
            assert_eq!(
                fixture.bearer(&token, NOW),
                refused("the token's algorithm is not accepted"),
                "{alg}"
            );
        }
    }

    // The public key as a shared secret, and a shared secret that is in the set.
    for (secret, kid) in [(signer.rsa_public(), "rsa"), (b"secret".to_vec(), "shared")] {
        let message = format!("{}.{body}", base64(json!({"alg": "HS256", "kid": kid}).to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        let token = format!("{message}.{}", base64(tag));
        assert_eq!(fixture.bearer(&token, NOW), refused("the token's algorithm is not accepted"), "{kid}");
    }

    // A key of another type than the algorithm needs.
    for (alg, kid) in
        [("RS256", "p256"), ("ES256", "rsa"), ("ES256", "p384"), ("EdDSA", "rsa"), ("ES384", "p256")]
    {
        let token = signer.sign(alg, Some(kid), &claims(json!({})));
        assert_eq!(
            fixture.bearer(&token, NOW),
            refused("the token's algorithm is not accepted"),
            "{alg} {kid}"
        );
    }

    // A signature by another algorithm than the header says.
    let token = signer.sign_as("PS256", &json!({"alg": "RS256", "kid": "rsa"}), &claims(json!({})));
    assert_eq!(fixture.bearer(&token, NOW), refused("the token's signature is wrong"));
}

#[test]
fn a_key_is_only_for_what_its_set_says() {
    let signer = Signer::new();
    let with = |field: &str, value: Value| {
        let mut key = signer.jwks()["keys"][0].clone();
        key[field] = value;
        KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes())
    };
    assert!(with("alg", json!("PS256")).is_ok());
    assert!(with("key_ops", json!(["verify"])).is_ok());
    let others = [
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("alg", json!("HS256")),
        ("alg", json!("ES256")),
        ("kty", json!("oct")),
        ("n", json!("AQAB")),
        ("n", json!("not base64!")),
    ];
    for (field, value) in others {
        assert!(with(field, value.clone()).is_err(), "{field} {value}");
    }
    let fixture = Fixture::with_jwt("", "");
    let mut key = fixture.signer.jwks()["keys"][0].clone();
    key["alg"] = json!("PS256");
    fixture.rotate(&json!({ "keys": [key] }));
    let token = |alg| fixture.signer.sign(alg, Some("rsa"), &claims(json!({})));
    assert_eq!(fixture.bearer(&token("RS256"), NOW), refused("the token's algorithm is not accepted"));
    assert_eq!(fixture.bearer(&token("PS256"), NOW).as_deref(), Ok(ALICE));

    for bad in ["", "[]", "{}", r#"{"keys": []}"#, r#"{"keys": [1, {}]}"#, r#"{"keys": {}}"#] {
        assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let many = json!({"keys": vec![signer.jwks()["keys"][0].clone(); 65]});
    assert!(KeySet::parse(many.to_string().as_bytes()).is_err_and(|error| error.to_string().contains("64")));
}

#[test]
fn a_wrong_key_or_signature_is_refused() {
    let fixture = Fixture::with_jwt("", "");
    let stranger = Signer::new();
    let token = |signer: &Signer, kid| signer.sign("ES256", kid, &claims(json!({})));
    let unknown = refused("the token's key is not known");
    assert_eq!(fixture.bearer(&token(&fixture.signer, Some("other")), NOW), unknown);
    assert_eq!(
        fixture.bearer(&token(&stranger, Some("p256")), NOW),
        refused("the token's signature is wrong")
    );
    assert_eq!(fixture.bearer(&token(&stranger, None), NOW), refused("the token's signature is wrong"));

    let good = token(&fixture.signer, Some("p256"));
    let parts: Vec<&str> = good.split('.').collect();
    let mallory = base64(claims(json!({"sub": "mallory"})).to_string());
    let tampered = [parts[0], &mallory, parts[2]].join(".");
    assert_eq!(fixture.bearer(&tampered, NOW), refused("the token's signature is wrong"));
    // Also after the good one was seen, and remembered.
    assert_eq!(fixture.bearer(&good, NOW).as_deref(), Ok(ALICE));
    assert_eq!(fixture.bearer(&tampered, NOW), refused("the token's signature is wrong"));
}

#[test]
fn what_is_no_token_is_refused() {
    let fixture = Fixture::with_jwt("", "");
    let good = fixture.signer.sign("ES256", Some("p256"), &claims(json!({})));
    let parts: Vec<&str> = good.split('.').collect();
    let list = base64("[1]");
    let bad = [
        String::new(),
        "x".to_owned(),
        "..".to_owned(),
        "a.b.c.d.e".to_owned(),
        format!("{good}="),
        format!("{good}.x"),
        [parts[0], &list, parts[2]].join("."),
        [&list, parts[1], parts[2]].join("."),
        format!("{}.{}.{}", base64(r#"{"alg":"ES256","alg":"none"}"#), parts[1], parts[2]),
        "a".repeat(40_000),
    ];
    for token in &bad {
        assert_eq!(fixture.bearer(token, NOW), refused("the token is malformed"), "{token}");
    }
    for critical in [json!(["b64"]), json!([]), json!(null)] {
        let header = json!({"alg": "ES256", "kid": "p256", "crit": critical, "b64": false});
        let token = fixture.signer.sign_as("ES256", &header, &claims(json!({})));
        let why = refused("the token has critical header parameters");
        assert_eq!(fixture.bearer(&token, NOW), why, "{critical}");
    }
}

#[test]
fn times_hold_within_the_skew() {
    let fixture = Fixture::with_jwt("    clockSkew: 30s\n", "");
    assert_eq!(fixture.claimed(json!({"exp": NOW}), NOW + 29).as_deref(), Ok(ALICE));
    assert_eq!(fixture.claimed(json!({"exp": NOW}), NOW + 30), refused("the token is expired"));
    assert_eq!(fixture.claimed(json!({"nbf": NOW}), NOW - 30).as_deref(), Ok(ALICE));
    assert_eq!(fixture.claimed(json!({"nbf": NOW}), NOW - 31), refused("the token is not valid yet"));
    assert_eq!(fixture.claimed(json!({"exp": 1_800_000_000.5}), NOW + 30).as_deref(), Ok(ALICE));
    assert_eq!(fixture.claimed(json!({"exp": null}), NOW), refused("the token does not expire"));
    for exp in [json!("1800000600"), json!(-1), json!(1e300), json!(u64::MAX), json!([])] {
        assert_eq!(fixture.claimed(json!({"exp": exp}), NOW), refused("the token is malformed"), "{exp}");
    }
    // The default is a minute.
    let fixture = Fixture::with_jwt("", "");
    assert_eq!(fixture.claimed(json!({"exp": NOW}), NOW + 59).as_deref(), Ok(ALICE));
    assert_eq!(fixture.claimed(json!({"exp": NOW}), NOW + 60), refused("the token is expired"));
}

#[test]
fn issuer_and_audience_must_be_ours() {
    let fixture = Fixture::with_jwt("", "");
    for iss in [json!(null), json!(format!("{ISSUER}/")), json!(1), json!([ISSUER])] {
        assert_eq!(fixture.claimed(json!({"iss": iss}), NOW), refused("the token's issuer is not accepted"));
    }
    for aud in [json!(null), json!("Reviews"), json!(["ratings"]), json!([]), json!({"reviews": 1})] {
        assert_eq!(fixture.claimed(json!({"aud": aud}), NOW), refused("the token is for another audience"));
    }
    assert_eq!(fixture.claimed(json!({"aud": ["ratings", "reviews"]}), NOW).as_deref(), Ok(ALICE));
    assert_eq!(fixture.claimed(json!({"sub": null}), NOW).as_deref(), Ok("https://issuer.example.com/"));
    assert_eq!(fixture.claimed(json!({"sub": 1}), NOW), refused("the token is malformed"));
}

#[test]
fn a_remembered_token_expires() {
    let fixture = Fixture::with_jwt("    clockSkew: 0s\n", "");
    let token = fixture.signer.sign("RS256", Some("rsa"), &claims(json!({})));
    assert_eq!(fixture.bearer(&token, NOW).as_deref(), Ok(ALICE));
    assert_eq!(fixture.access.identifier.cached(), 1);
    assert_eq!(fixture.bearer(&token, NOW + 599).as_deref(), Ok(ALICE));
    assert_eq!(fixture.bearer(&token, NOW + 600), refused("the token is expired"));
    assert_eq!(fixture.access.identifier.cached(), 0);
    let long = fixture.signer.sign("RS256", Some("rsa"), &claims(json!({"x": "y".repeat(5000)})));
    assert_eq!(fixture.bearer(&long, NOW).as_deref(), Ok(ALICE));
    assert_eq!(fixture.access.identifier.cached(), 0, "long ones are not remembered");
}

#[test]
fn keys_rotate() {
    let fixture = Fixture::with_jwt("", "");
    let old = fixture.signer.sign("EdDSA", Some("ed25519"), &claims(json!({})));
    assert_eq!(fixture.bearer(&old, NOW).as_deref(), Ok(ALICE));

    let next = Signer::new();
    fixture.rotate(&next.jwks());
    assert_eq!(fixture.bearer(&old, NOW), refused("the token's signature is wrong"), "remembered no longer");
    let new = next.sign("EdDSA", Some("ed25519"), &claims(json!({})));
    assert_eq!(fixture.bearer(&new, NOW).as_deref(), Ok(ALICE));

    // A new configuration keeps the keys.
    let stores = KeyStores::new(std::slice::from_ref(&fixture.policy), Some(&fixture.stores));
    let access = Access::new(&[&fixture.policy], &stores);
    let later = Fixture { stores, access, signer: Signer::new(), policy: fixture.policy.clone() };
    assert_eq!(later.bearer(&new, NOW).as_deref(), Ok(ALICE));
}

#[tokio::test(start_paused = true)]
async fn only_an_unknown_key_makes_us_ask_for_others() {
    let fixture = Fixture::with_jwt("", "");
    let store = fixture.stores.find(&fixture.policy.jwt[0].jwks).unwrap();
    let wanted = async || tokio::time::timeout(Duration::from_secs(1), store.wanted()).await.is_ok();
    let token = |kid, with| fixture.signer.sign("ES256", Some(kid), &claims(with));
    for (token, expected) in [
        (token("p256", json!({})), false),
        (token("rsa", json!({})), false),
        (token("p256", json!({"exp": 1})), false),
        (token("new", json!({"iss": "https://other.example.com"})), false),
        (token("new", json!({})), true),
    ] {
        let _ = fixture.bearer(&token, NOW);
        assert_eq!(wanted().await, expected, "{token}");
    }
}

#[tokio::test]
async fn a_file_is_read_and_kept_when_it_breaks() {
    let signer = Signer::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let fixture = Fixture {
        signer,
        ..Fixture::new(&format!(
            "  jwt: [{{issuer: '{ISSUER}', jwks: {{file: '{}'}}}}]\n",
            file.path().display()
        ))
    };
    assert_eq!(fixture.claimed(json!({}), NOW), refused("the token's key is not known"));
    std::fs::write(file.path(), fixture.signer.jwks().to_string()).unwrap();
    fixture.stores.refresh().await;
    assert_eq!(fixture.claimed(json!({}), NOW).as_deref(), Ok(ALICE));
    std::fs::write(file.path(), "{").unwrap();
    fixture.stores.refresh().await;
    assert_eq!(fixture.claimed(json!({}), NOW).as_deref(), Ok(ALICE));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_is_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let jwks = format!("{{file: '{}'}}", file.path().display());
    let fixture = Fixture::new(&format!("  jwt: [{{issuer: '{ISSUER}', jwks: {jwks}}}]\n"));
    let changed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::fs::write(file.path(), fixture.signer.jwks().to_string()).unwrap();
        tokio::time::sleep(Duration::from_secs(6)).await;
        while fixture.claimed(json!({}), NOW).is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = fixture.stores.keep_fresh() => {}
        changed = tokio::time::timeout(Duration::from_secs(60), changed) => changed.unwrap(),
    }
}

/// Serves these answers, one after another.
async fn serve(listener: tokio::net::TcpListener, answers: Vec<String>) {
    for answer in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_url_is_fetched_and_its_keys_kept_when_it_fails() {
    let signer = Signer::new();
    let (jwks, listener) =
        (signer.jwks().to_string(), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    let uri = format!("{{uri: 'http://{}/keys'}}", listener.local_addr().unwrap());
    let fixture =
        Fixture { signer, ..Fixture::new(&format!("  jwt: [{{issuer: '{ISSUER}', jwks: {uri}}}]\n")) };
    let answer = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let answers = vec![
        answer("200 OK", &jwks),
        answer("500 Oops", &Signer::new().jwks().to_string()),
        answer("200 OK", "{}"),
        answer("200 OK", &" ".repeat(1024 * 1024 + 1)),
    ];
    let mut serving = tokio::spawn(serve(listener, answers));
    for _ in 0..4 {
        fixture.stores.refresh().await;
        assert_eq!(fixture.claimed(json!({}), NOW).as_deref(), Ok(ALICE));
    }
    (&mut serving).await.unwrap();
    fixture.stores.refresh().await;
    assert_eq!(fixture.claimed(json!({}), NOW).as_deref(), Ok(ALICE), "nobody listens");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(token in "[A-Za-z0-9_-]{0,9}\\.[A-Za-z0-9_-]{0,9}\\.[A-Za-z0-9_-]{0,9}|.*") {
        let _ = Unverified::parse(&token);
    }
}

#[test]
fn tokens_come_in_other_headers_and_need_not_go_on() {
    let more = "    fromHeaders: [{name: x-jwt}, {name: x-auth, prefix: 'Token '}]\n    forward: false\n";
    let fixture = Fixture::with_jwt(more, "");
    let token = fixture.signer.sign("ES256", Some("p256"), &claims(json!({})));
    for (name, text) in [("x-jwt", token.clone()), ("x-auth", format!("token  {token}"))] {
        match fixture.verdict(&Sent::default().header(name, &text), at(NOW)) {
            Verdict::Allow { remove_headers, .. } => assert_eq!(remove_headers, [name]),
            refused @ Verdict::Refuse { .. } => panic!("{refused:?}"),
        }
    }
    assert_eq!(fixture.outcome(&Sent::default().header("x-auth", &token)), refused("a token is needed"));
    assert_eq!(fixture.bearer(&token, NOW), refused("a token is needed"));
    let two = Sent::default().header("x-jwt", &token).header("x-auth", &format!("Token {token}"));
    assert_eq!(fixture.outcome(&two), refused("the request has more than one token"));
}

#[test]
fn challenges_say_what_is_wrong() {
    let fixture = Fixture::with_jwt("", "  rules: [{action: ALLOW, when: {claims: {role: [admin]}}}]\n");
    let challenge = |sent: &Sent, now| match fixture.verdict(sent, at(now)) {
        Verdict::Refuse { status, www_authenticate, .. } => {
            (status.as_u16(), www_authenticate.and_then(|value| value.to_str().ok().map(str::to_owned)))
        }
        allowed @ Verdict::Allow { .. } => panic!("{allowed:?}"),
    };
    let text = |text: &str| Some(format!("Bearer realm=\"sidecar\"{text}"));
    assert_eq!(challenge(&Sent::default(), NOW), (401, text("")));
    let sent = Sent::default().bearer(&fixture.signer.sign("ES256", None, &claims(json!({}))));
    let expired = r#", error="invalid_token", error_description="the token is expired""#;
    assert_eq!(challenge(&sent, NOW + 3600), (401, text(expired)));
    assert_eq!(challenge(&sent, NOW), (403, text(r#", error="insufficient_scope""#)));
    let empty = Sent::default().header("authorization", "Bearer");
    assert_eq!(challenge(&empty, NOW).0, 401);
    let basic = Sent::default().header("authorization", "Basic YTpi");
    assert_eq!(challenge(&basic, NOW), (401, text("")));
}

impl Fixture {
    fn rotate(&self, jwks: &Value) {
        let store = self.stores.find(&self.policy.jwt[0].jwks).unwrap();
        store.replace(KeySet::parse(jwks.to_string().as_bytes()).unwrap());
    }
}
