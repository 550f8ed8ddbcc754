use super::*;

type Outcome<'a> = Result<&'a str, (u16, &'a str)>;

const DENIED: Outcome<'_> = Err((403, "a DENY rule matches"));
const NOT_ALLOWED: Outcome<'_> = Err((403, "no ALLOW rule matches"));
const NEEDED: Outcome<'_> = Err((401, "a token is needed"));

impl Fixture {
    fn is(&self, sent: &Sent, expected: Outcome<'_>) {
        let found = self.outcome(sent);
        assert_eq!(found.as_deref().map_err(|why| *why), expected, "{} {}", sent.method, sent.path);
    }

    fn token(&self, with: Value) -> String {
        self.signer.sign("ES256", Some("p256"), &claims(with))
    }
}

/// The rules of the contract by example.
const EXAMPLE: &str = r#"  tokens:
  - {name: batch, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
  rules:
  - {action: DENY, from: {sources: ["10.9.0.0/16"]}}
  - {action: ALLOW, to: {methods: [GET], paths: ["/api/*"]}, when: {claims: {role: [reader, admin]}}}
  - {action: ALLOW, to: {paths: ["/public/*"]}, unauthenticated: true}
"#;

#[test]
fn the_example_decides() {
    let fixture = Fixture::with_jwt("", EXAMPLE);
    let alice = Ok("https://issuer.example.com/alice");
    let reader = fixture.token(json!({"role": ["writer", "reader"]}));
    let writer = fixture.token(json!({"role": ["writer"]}));
    let api = || Sent::default().path("/api/x");
    fixture.is(&api(), NEEDED);
    fixture.is(&api().bearer(&reader), alice);
    fixture.is(&api().bearer(&writer), NOT_ALLOWED);
    fixture.is(&Sent { method: Method::POST, ..api() }.bearer(&reader), NOT_ALLOWED);
    fixture.is(&Sent::default().path("/other").bearer(&reader), NOT_ALLOWED);

    let public = || Sent::default().path("/public/x");
    fixture.is(&public(), Ok("-"));
    fixture.is(&public().bearer(&writer), alice);
    fixture.is(&public().bearer("junk"), Err((401, "the token is malformed")));
    // DENY comes first, for everyone; also for a client that is written as IPv6.
    for source in ["10.9.1.1", "::ffff:10.9.1.1"] {
        let source = source.parse().unwrap();
        fixture.is(&Sent { source, ..public() }, DENIED);
        fixture.is(&Sent { source, ..api() }.bearer(&reader), DENIED);
    }
    // SHA-256 of "test".
    fixture.is(&public().bearer("test"), Ok("tokens/batch"));
    fixture.is(&api().bearer("test"), NOT_ALLOWED);
}

#[test]
fn spellings_of_a_path_are_authorised_alike() {
    let rules = "  rules:
  - {action: DENY, to: {paths: [/admin, /admin/*]}}
  - {action: ALLOW, to: {paths: [/api/*, /admin]}}
";
    let fixture = Fixture::new(rules);
    fixture.is(&Sent::default().path("/api/x"), Ok("-"));
    let spellings = ["/admin", "/api/../admin", "/api/%2e%2e/admin", "//admin", "/%61dmin", "/./admin/"];
    for path in spellings {
        fixture.is(&Sent::default().path(path), DENIED);
    }
    assert_eq!(fixture.access.normalise("/admin%2f"), Err(Refused::EncodedSlash));
    assert_eq!(fixture.access.normalise("/api/..%2fadmin"), Err(Refused::EncodedSlash));
    let lenient = Fixture::new("  pathNormalization: {allowEncodedSlashes: true}\n");
    assert_eq!(lenient.access.normalise("/admin%2fx").as_deref(), Ok("/admin%2Fx"));
    // All policies must let them.
    let both = Access::new(&[&lenient.policy, &fixture.policy], &lenient.stores);
    assert_eq!(both.normalise("/admin%2fx"), Err(Refused::EncodedSlash));
}

#[test]
fn every_condition_must_hold() {
    let fixture = Fixture::new(
        "  rules:
  - action: ALLOW
    from: {sources: [10.0.0.0/8, 'fd00::/8']}
    to: {methods: [GET, HEAD], paths: ['*.json', /exact], hosts: ['*.example.com'], ports: [8080]}
    when: {headers: {x-team: [red, 'b*']}}
",
    );
    let good = || Sent::default().path("/exact").header("x-team", "blue");
    fixture.is(&good(), Ok("-"));
    fixture.is(&good().path("/a/b.json"), Ok("-"));
    fixture.is(&Sent { host: Some("APP.example.com.:8080"), ..good() }, Ok("-"));
    fixture.is(&Sent::default().path("/exact").header("x-team", "green").header("x-team", "red"), Ok("-"));
    let bad = [
        good().path("/exact/"),
        Sent { method: Method::POST, ..good() },
        Sent { source: IpAddr::from([11, 0, 0, 1]), ..good() },
        Sent { host: Some("example.com"), ..good() },
        Sent { host: None, ..good() },
        Sent::default().path("/exact"),
        Sent::default().path("/exact").header("x-team", "Red"),
    ];
    for sent in &bad {
        fixture.is(sent, NOT_ALLOWED);
    }
    let other = Fixture::new("  rules: [{action: ALLOW, to: {ports: [80]}}]\n");
    other.is(&good(), NOT_ALLOWED);
}

#[test]
fn a_deny_sees_values_beyond_ascii() {
    let fixture = Fixture::new("  rules: [{action: DENY, when: {headers: {x-debug: ['*']}}}]\n");
    fixture.is(&Sent::default(), Ok("-"));
    fixture.is(&Sent::default().header("x-debug", "ja\u{e9}"), DENIED);
}

#[test]
fn without_an_allow_all_passes_that_is_known() {
    let open = Fixture::new("  rules: [{action: DENY, to: {methods: [TRACE]}}]\n");
    open.is(&Sent::default(), Ok("-"));
    open.is(&Sent { method: Method::TRACE, ..Sent::default() }, DENIED);
    open.is(&Sent::default().bearer("anything"), Ok("-"));

    let known = Fixture::with_jwt("", "");
    known.is(&Sent::default(), NEEDED);
    known.is(&Sent::default().bearer(&known.token(json!({}))), Ok("https://issuer.example.com/alice"));
    let none = Fixture::new("  rules: [{action: ALLOW, from: {principals: ['*']}}]\n");
    none.is(&Sent::default(), NOT_ALLOWED);
}

#[test]
fn principals_and_policies_come_together() {
    let issuer =
        Fixture::with_jwt("", "  rules: [{action: ALLOW, from: {principals: ['https://issuer*']}}]\n");
    let batch = policy(&EXAMPLE.replace("DENY, from", "ALLOW, from"));
    let access = Access::new(&[&issuer.policy, &batch], &issuer.stores);
    let token = issuer.token(json!({}));
    let both = Fixture { access, ..issuer };
    both.is(&Sent::default().bearer(&token), Ok("https://issuer.example.com/alice"));
    both.is(&Sent::default().bearer("test"), NOT_ALLOWED);
    both.is(&Sent { source: [10, 9, 0, 1].into(), ..Sent::default() }.bearer("test"), Ok("tokens/batch"));
}

#[test]
fn a_client_cannot_say_claims_itself() {
    let more = "    claimToHeaders: [{claim: sub, header: x-user}, {claim: org.team, header: x-team}]\n";
    let fixture = Fixture::with_jwt(more, EXAMPLE);
    let spoofed = || {
        let sent = Sent::default().path("/public/x").header("x-user", "root").header("x-user", "admin");
        sent.header("x_user", "root").header("x-team", "red").header("x-other", "1")
    };
    let headers = |sent: &Sent| match fixture.verdict(sent, at(NOW)) {
        Verdict::Allow { set_headers, remove_headers, .. } => {
            let mut removed: Vec<_> = remove_headers.iter().map(ToString::to_string).collect();
            removed.sort();
            let set = set_headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
            (removed, set.collect::<Vec<_>>())
        }
        refused @ Verdict::Refuse { .. } => panic!("{refused:?}"),
    };
    let all = ["x-team", "x-user", "x_user"].map(str::to_owned).to_vec();
    assert_eq!(headers(&spoofed()), (all.clone(), vec![]));
    assert_eq!(headers(&spoofed().bearer("test")), (all.clone(), vec![]));
    let sent = spoofed().bearer(&fixture.token(json!({"org": {"team": "blue"}})));
    assert_eq!(headers(&sent), (all, vec!["x-user: alice".to_owned(), "x-team: blue".to_owned()]));
}
