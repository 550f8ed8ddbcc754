//! Requests at explicit listeners, by rules and policies: `programs/routes.yaml`.

use std::path::Path;

use sidecar_tests::{Finished, Netns, Sidecar, http_server, require};

/// An answer: its status line and header, and its body.
struct Reply {
    head: String,
    body: String,
}

impl Reply {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    #[track_caller]
    fn is(&self, status: &str, field: &str, body: &str) {
        let has_field = field.is_empty() || self.head.lines().any(|line| line == field);
        assert!(self.status() == status && has_field && self.body == body, "{}\n{}", self.head, self.body);
    }
}

/// Asks with curl, whose `options` are given too.
#[track_caller]
fn ask(netns: &Netns, url: &str, options: &[&str]) -> Reply {
    let mut curl = netns.place().command("curl");
    let said = Finished::of(curl.args(["-sSi", "--path-as-is", "--max-time", "10"]).args(options).arg(url))
        .success();
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
    Reply { head: head.replace('\r', ""), body: body.to_owned() }
}

#[test]
fn rules_and_policies() {
    require!(root);
    let netns = Netns::new("routes");
    let files = tempfile::tempdir().unwrap();
    for name in ["page", "secret"] {
        std::fs::write(files.path().join(name), name).unwrap();
    }
    let _server = http_server(&netns, &netns.place(), 8000, files.path());
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/routes.yaml");
    let sidecar = Sidecar::start_by(&netns.place(), &netns, &config);
    let front = |path: &str, options: &[&str]| ask(&netns, &format!("http://127.0.0.1:8081{path}"), options);
    let by = |user: &str| format!("x-user: {user}");

    front("/hello", &["-H", &by("a")]).is("203", "content-type: text/html", "<h1>hello</h1>");
    front("/old/x", &["-H", &by("b")]).is("301", "location: http://127.0.0.1:8081/new/x", "");
    front("/app/page", &["-H", &by("c")]).is("200", "x-changed: 1", "page");
    front("/page", &["-H", &by("d")]).is("404", "x-sidecar-reason: no-route", "");
    front("/nowhere", &["-H", &by("e")]).is("500", "x-sidecar-reason: invalid-backend", "");
    front("/app/page", &["-H", "x-chaos: 1"]).is("418", "x-sidecar-reason: fault-injected", "");
    front("/app/page", &["-X", "CONNECT"]).is("405", "x-sidecar-reason: connect-not-allowed", "");
    // One endpoint refuses: what comes to it is sent to the other.
    for round in 0..8 {
        front("/half/page", &["-H", &by(&format!("half-{round}"))]).is("200", "", "page");
    }
    assert!(sidecar.metric("sidecar_retries_total") > 0);

    let statuses: Vec<String> =
        (0..7).map(|_| front("/hello", &["-H", &by("limited")]).status().to_owned()).collect();
    assert_eq!(statuses, ["203", "203", "203", "203", "203", "429", "429"]);
    front("/hello", &["-H", &by("limited")]).is("429", "x-ratelimit-remaining: 0", "");
    assert_eq!(sidecar.metric("sidecar_rate_limited_total"), 3);

    let plain = |path: &str, token: &str| {
        let token = format!("authorization: Bearer {token}");
        ask(&netns, &format!("http://127.0.0.1:8082{path}"), &["-H", &token])
    };
    plain("/page", "test").is("200", "", "page");
    plain("/page", "wrong").is("401", "x-sidecar-reason: unauthenticated", "");
    for disguised in ["/secret", "/./secret", "/x/../secret", "//secret", "/%73ecret"] {
        plain(disguised, "test").is("403", "x-sidecar-reason: access-denied", "");
    }
    plain("/x%2f..%2fsecret", "test").is("400", "x-sidecar-reason: ambiguous-path", "");
}
