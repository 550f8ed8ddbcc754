//! `sidecar webhook` over TLS, as the API server asks it, and an API server as much as it needs one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sidecar_tests::{Authority, DEADLINE, Finished, Place, Program, binary, eventually, python, require};
use tempfile::TempDir;

const HOST: &str = "sidecar-webhook.sidecar-system.svc";
const SECRET: &str = "/api/v1/namespaces/sidecar-system/secrets/sidecar-webhook-tls";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// A running webhook.
struct Webhook {
    program: Program,
    port: u16,
}

/// A fake API server, and a file by which clients find it.
struct Api {
    _program: Program,
    port: u16,
    files: TempDir,
}

// === impl Webhook ===

impl Webhook {
    #[track_caller]
    fn start(args: &[&str], kubeconfig: Option<&Path>) -> Self {
        let mut command = Place::default().without_capabilities().command(binary());
        command.args(["--log", "info", "webhook", "--listen", "127.0.0.1:0"]).args(args);
        command.env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/nowhere"))).env_remove("POD_NAMESPACE");
        let mut program = Program::start(&mut command);
        let port = eventually(DEADLINE, "the webhook's port", || {
            let ended = program.has_ended();
            let said = program.stderr();
            assert!(!ended, "{said}");
            let (_, rest) = said.split_once("listening on 127.0.0.1:")?;
            rest.split_once(|c: char| !c.is_ascii_digit())?.0.parse().ok()
        });
        Self { program, port }
    }

    /// What it answers somebody who believes this issuer alone: the status, 0 if there is none, and the body.
    fn ask(&self, issuers: &Path, path: &str, body: Option<&str>) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "10", "-w", "\n%{http_code}", "--cacert"]).arg(issuers);
        curl.args(["--resolve", &format!("{HOST}:{}:127.0.0.1", self.port)]);
        curl.arg(format!("https://{HOST}:{}{path}", self.port));
        let directory = tempfile::tempdir().unwrap();
        if let Some(body) = body {
            let file = directory.path().join("body");
            std::fs::write(&file, body).unwrap();
            curl.args(["-H", "expect:", "--data-binary"]).arg(format!("@{}", file.display()));
        }
        let ended = Finished::of(&mut curl);
        let (body, status) = ended.stdout.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// The `response` to a review of this Pod.
    #[track_caller]
    fn review(&self, issuers: &Path, pod: &Value) -> Value {
        let (status, body) = self.ask(issuers, "/mutate", Some(&review(pod)));
        assert_eq!(status, 200, "{body}: {}", self.program.stderr());
        serde_json::from_str::<Value>(&body).unwrap()["response"].clone()
    }

    #[track_caller]
    fn wait_until_ready(&self, issuers: &Path) {
        eventually(DEADLINE, "a ready webhook", || {
            (self.ask(issuers, "/healthz/ready", None).0 == 200).then_some(())
        });
    }
}

// === impl Api ===

impl Api {
    #[track_caller]
    fn start(minor: &str) -> Self {
        let mut program = Program::start(python(&Place::default(), "kubernetes_api.py").arg(minor));
        let port = program.wait_for_output("\n").trim().parse().unwrap();
        let files = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        });
        std::fs::write(files.path().join("kubeconfig"), config.to_string()).unwrap();
        Self { _program: program, port, files }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.files.path().join("kubeconfig")
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "10", "-X", method])
            .arg(format!("http://127.0.0.1:{}{path}", self.port));
        if let Some(body) = body {
            curl.args(["-d", &body.to_string()]);
        }
        serde_json::from_str(&Finished::of(&mut curl).success()).unwrap()
    }

    fn log(&self) -> Vec<String> {
        serde_json::from_value(self.ask("GET", "/log", None)).unwrap()
    }

    /// The two entries of a configuration, whose issuers nobody has set yet.
    fn configure(&self) {
        let entry = |name: &str| {
            let service =
                json!({"name": "sidecar-webhook", "namespace": "sidecar-system", "path": "/mutate"});
            json!({
                "name": name, "clientConfig": {"service": service}, "sideEffects": "None",
                "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            })
        };
        let webhooks = [entry("namespace.sidecar.dev"), entry("pod.sidecar.dev")];
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "sidecar-webhook"}, "webhooks": webhooks,
        });
        self.ask("POST", CONFIGURATIONS, Some(&configuration));
    }

    /// The issuers that the API server believes, once each entry has the same, other than these; and a file with them.
    #[track_caller]
    fn issuers(&self, but: &str) -> (String, PathBuf) {
        let issuers = eventually(4 * DEADLINE, "another caBundle", || {
            let found = self.ask("GET", &format!("{CONFIGURATIONS}/sidecar-webhook"), None);
            let bundles =
                found["webhooks"].as_array()?.iter().map(|one| one["clientConfig"]["caBundle"].as_str());
            let bundles = bundles.collect::<Option<Vec<_>>>()?;
            assert_eq!(found["webhooks"][1]["failurePolicy"], "Fail", "the rest of it stays");
            (bundles[0] == bundles[1] && bundles[0] != but).then(|| bundles[0].to_owned())
        });
        let file = self.files.path().join("issuers.pem");
        let mut decode = Program::start(Command::new("base64").arg("-d"));
        decode.say(&issuers);
        decode.close_stdin();
        std::fs::write(&file, decode.wait().success()).unwrap();
        (issuers, file)
    }
}

fn review(pod: &Value) -> String {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let request = json!({"uid": "u1", "kind": kind, "operation": "CREATE", "dryRun": true, "object": pod});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "app"}]}})
}

/// The operations of an answer's patch.
fn patch(response: &Value) -> String {
    let mut decode = Program::start(Command::new("base64").arg("-d"));
    decode.say(response["patch"].as_str().unwrap_or_else(|| panic!("{response}")));
    decode.close_stdin();
    decode.wait().success()
}

#[test]
fn it_makes_a_certificate_that_the_api_server_comes_to_believe() {
    require!(program "curl");
    let api = Api::start("20");
    api.configure();
    let webhook = Webhook::start(&[], Some(&api.kubeconfig()));
    let (first, issuers) = api.issuers("");
    webhook.wait_until_ready(&issuers);
    let response = webhook.review(&issuers, &pod());
    assert_eq!((&response["allowed"], &response["uid"]), (&json!(true), &json!("u1")));
    let operations = patch(&response);
    assert!(operations.contains("sidecar-proxy") && operations.contains("sidecar-init"), "{operations}");
    assert!(!operations.contains("restartPolicy"), "Kubernetes 1.20 has no native sidecars: {operations}");
    // Somebody who believes others does not speak to it.
    assert_eq!(webhook.ask(&Authority::new().certificate(), "/healthz/live", None).0, 0);

    // Another replica shows the same.
    let other = Webhook::start(&[], Some(&api.kubeconfig()));
    other.wait_until_ready(&issuers);
    assert_eq!(other.review(&issuers, &pod()), response);
    let written =
        api.log().iter().filter(|line| line.contains("/secrets") && !line.starts_with("GET")).count();
    assert_eq!(written, 1, "{:?}", api.log());

    // The configuration is applied anew, without the issuers.
    api.ask("DELETE", &format!("{CONFIGURATIONS}/sidecar-webhook"), None);
    api.configure();
    let (second, _) = api.issuers("");
    assert_eq!(first, second);

    // The Secret is gone: one replica makes another, and who was shown the one before is believed until all show it.
    api.ask("DELETE", SECRET, None);
    let (_, issuers) = api.issuers(&first);
    for webhook in [&webhook, &other] {
        assert_eq!(webhook.ask(&issuers, "/healthz/ready", None).0, 200);
    }
}

#[test]
fn replicas_that_start_together_agree() {
    require!(program "curl");
    let api = Api::start("33+");
    api.configure();
    let replicas: Vec<Webhook> = (0..3).map(|_| Webhook::start(&[], Some(&api.kubeconfig()))).collect();
    let (_, issuers) = api.issuers("");
    for replica in &replicas {
        replica.wait_until_ready(&issuers);
        let operations = patch(&replica.review(&issuers, &pod()));
        assert!(
            operations.contains("\"restartPolicy\":\"Always\""),
            "1.33 has native sidecars: {operations}"
        );
    }
    assert_eq!(
        api.log().iter().filter(|line| line.starts_with("POST") && line.contains("/secrets 200")).count(),
        1
    );
}

/// As cert-manager keeps it: no API server is needed, and a renewed certificate is taken over.
#[test]
fn a_mounted_certificate_is_shown_and_read_again() {
    require!(program "curl");
    let (first, second) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let mount = |authority: &Authority| {
        let certificate = authority.issue("webhook", &format!("DNS:{HOST}"));
        for (file, name) in [(&certificate.key, "tls.key"), (&certificate.chain, "tls.crt")] {
            std::fs::copy(file, directory.path().join(name)).unwrap();
        }
    };
    mount(&first);
    let args =
        ["--tls-directory", directory.path().to_str().unwrap(), "--native", "never", "--mode", "agent"];
    let webhook = Webhook::start(&args, None);
    webhook.wait_until_ready(&first.certificate());
    assert!(!patch(&webhook.review(&first.certificate(), &pod())).contains("sidecar-init"));
    mount(&second);
    webhook.wait_until_ready(&second.certificate());
    assert_eq!(webhook.ask(&first.certificate(), "/healthz/live", None).0, 0);

    // Half a change leaves what was.
    std::fs::write(directory.path().join("tls.key"), "no key").unwrap();
    eventually(DEADLINE, "a complaint", || {
        webhook.program.stderr().contains("the one before stays").then_some(())
    });
    assert_eq!(webhook.ask(&second.certificate(), "/healthz/ready", None).0, 200);
}

#[test]
fn it_answers_what_it_is_asked_and_nothing_else() {
    require!(program "curl");
    let authority = Authority::new();
    let certificate = authority.issue("webhook", &format!("DNS:{HOST}"));
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(&certificate.chain, directory.path().join("tls.crt")).unwrap();
    std::fs::copy(&certificate.key, directory.path().join("tls.key")).unwrap();
    let args = ["--tls-directory", directory.path().to_str().unwrap(), "--native", "never"];
    let mut webhook = Webhook::start(&args, None);
    let issuers = authority.certificate();
    webhook.wait_until_ready(&issuers);

    let mut exempt = pod();
    exempt["spec"]["securityContext"] = json!({"runAsUser": 1337});
    let response = webhook.review(&issuers, &exempt);
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
    assert!(response["status"]["message"].as_str().unwrap().contains("runs as user 1337"), "{response}");
    let mut host = pod();
    host["spec"]["hostNetwork"] = json!(true);
    let response = webhook.review(&issuers, &host);
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
    assert!(response["warnings"][0].as_str().unwrap().contains("hostNetwork"), "{response}");

    assert_eq!(webhook.ask(&issuers, "/mutate", None).0, 405);
    assert_eq!(webhook.ask(&issuers, "/other", None).0, 404);
    assert_eq!(webhook.ask(&issuers, "/mutate", Some("{}")).0, 400);
    assert_eq!(webhook.ask(&issuers, "/mutate", Some("not JSON")).0, 400);
    let mut large = pod();
    large["metadata"]["annotations"] = json!({"large": "x".repeat(3 << 20)});
    assert_eq!(webhook.ask(&issuers, "/mutate", Some(&review(&large))).0, 413);

    // Who does not speak TLS, or says nothing, is in nobody's way.
    let _silent: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(("127.0.0.1", webhook.port)).unwrap()).collect();
    let mut plain = TcpStream::connect(("127.0.0.1", webhook.port)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    plain.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = plain.read_to_end(&mut Vec::new());
    assert_eq!(webhook.review(&issuers, &pod())["allowed"], true);

    webhook.program.signal(Signal::SIGTERM);
    // It is still asked, by who does not know yet.
    assert_eq!(webhook.review(&issuers, &pod())["allowed"], true);
    let ended = webhook.program.wait_for(4 * DEADLINE);
    assert!(ended.status.success(), "{ended:?}");
}
