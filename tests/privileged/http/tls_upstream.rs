//! Backends that are spoken to over TLS: nginx and openssl(1) as servers, certificates of the test's own. Requests come
//! through explicit listeners, one for each backend.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sidecar_tests::{
    Authority, Certificate, Config, DEADLINE, Finished, Mode, Nginx, PEER4, Pair, Program, Sidecar,
    eventually, in_modes,
};
use tempfile::TempDir;

/// Where nginx is: with HTTP/1.1 only, with HTTP/2 as well, asking for a certificate, without TLS.
const HTTP1: u16 = 8443;
const BOTH: u16 = 8444;
const MUTUAL: u16 = 8445;
const PLAIN: u16 = 8080;
/// Where openssl is, which refuses in the handshake who has no certificate.
const STRICT: u16 = 8446;

/// The port of the first listener.
const FRONT: u16 = 9001;

/// Servers, and a sidecar before them. Fields are dropped in order.
pub(super) struct Tls {
    sidecar: Sidecar,
    _nginx: Nginx,
    pub net: Pair,
    logs: TempDir,
}

/// An answer: status, reason, body.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Said(pub u16, pub String, pub String);

impl Tls {
    /// With these backends, each with a listener, and what else a configuration has.
    #[track_caller]
    pub(super) fn start(
        mode: Mode,
        server: &Certificate,
        believed: &Path,
        backends: &[Value],
        change: impl FnOnce(Config) -> Config,
    ) -> Self {
        let net = Pair::new("tls");
        let logs = tempfile::tempdir().unwrap();
        let nginx = nginx(&net, server, believed, &logs.path().join("nginx.log"));
        let mut config = Config::new(mode)
            .with("accessLog.format", "json")
            .with("accessLog.path", logs.path().join("access.log").to_str().unwrap());
        let mut listeners = Vec::new();
        for (port, spec) in (FRONT..).zip(backends) {
            let backend = format!("b{port}");
            listeners.push(json!({
                "name": format!("l{port}"), "address": format!("127.0.0.1:{port}"), "forward": backend,
            }));
            config = config.with_object("Backend", &backend, spec.clone());
        }
        let config = change(config.with("listeners", Value::from(listeners)));
        let sidecar = Sidecar::start(&net.pod, &config);
        Self { sidecar, _nginx: nginx, net, logs }
    }

    /// Asks the backend of this number with curl.
    #[track_caller]
    pub(super) fn ask(&self, backend: u16, path: &str, options: &[&str]) -> Said {
        let mut curl = self.net.pod.place().command("curl");
        let url = format!("http://127.0.0.1:{}{path}", FRONT + backend);
        curl.args(["-sS", "--max-time", "10", "-w", "\n%{http_code} %header{x-sidecar-reason}"]);
        let said = Finished::of(curl.args(options).arg(url)).success();
        let (body, last) = said.rsplit_once('\n').unwrap();
        let (status, reason) = last.split_once(' ').unwrap();
        Said(status.parse().unwrap(), reason.to_owned(), body.trim().to_owned())
    }

    /// Has nginx answer `/keys` with this.
    pub(super) fn serve_keys(&self, keys: &str) {
        std::fs::write(self.logs.path().join("keys.json"), keys).unwrap();
    }

    /// Asks the backend of this number until the answer has this status.
    #[track_caller]
    pub(super) fn eventually(&self, backend: u16, options: &[&str], status: u16) {
        eventually(DEADLINE, &format!("a {status} of backend {backend}"), || {
            (self.ask(backend, "/", options).0 == status).then_some(())
        });
    }

    /// The server's log: a request's target and the version of TLS on each line.
    pub(super) fn seen_by_server(&self) -> String {
        std::fs::read_to_string(self.logs.path().join("nginx.log")).unwrap()
    }

    /// The flags of the access log's line about a request for this path.
    #[track_caller]
    fn flags(&self, path: &str) -> String {
        eventually(DEADLINE, &format!("a line about {path} in the access log"), || {
            let text = std::fs::read_to_string(self.logs.path().join("access.log")).ok()?;
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            Some(lines.find(|line| line["path"] == path)?["flags"].as_str()?.to_owned())
        })
    }
}

/// nginx, which says what it was asked by: protocol, name, whether the client has shown a certificate.
fn nginx(net: &Pair, server: &Certificate, believed: &Path, log: &Path) -> Nginx {
    let Certificate { chain, key } = server;
    let (chain, key, believed) = (chain.display(), key.display(), believed.display());
    let says = "return 200 '$server_protocol $ssl_server_name $ssl_client_verify\\n';";
    let ssl = format!("ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {chain}; ssl_certificate_key {key};");
    let locations = format!(
        "access_log {} tls; location / {{ {says} }} location /refuse {{ return 403 no; }} location /keys {{ alias {}; }}",
        log.display(),
        log.with_file_name("keys.json").display()
    );
    let directives = format!(
        "log_format tls '$request_uri $ssl_protocol';
        server {{ listen 0.0.0.0:{PLAIN}; {locations} }}
        server {{ listen 0.0.0.0:{HTTP1} ssl; {ssl} {locations} }}
        server {{ listen 0.0.0.0:{BOTH} ssl http2; {ssl} {locations} }}
        server {{ listen 0.0.0.0:{MUTUAL} ssl; {ssl} {locations}
            ssl_verify_client on; ssl_client_certificate {believed}; }}"
    );
    Nginx::serving(&net.peer, &net.peer.place(), PLAIN, &directives)
}

/// A backend on this port of the server, with this protocol.
pub(super) fn backend(port: u16, protocol: &str, tls: Value) -> Value {
    json!({"endpoints": [{"address": crate::at(PEER4, port)}], "protocol": protocol, "tls": tls})
}

fn ok(body: &str) -> Said {
    Said(200, String::new(), body.to_owned())
}

fn refused() -> Said {
    Said(503, "upstream-tls-failed".to_owned(), String::new())
}

/// Client and server agree on a protocol within what the backend is and what the request can be said in.
fn agrees_on_a_protocol(mode: Mode) {
    let ca = Authority::new();
    let believed = ca.certificate();
    let by_name = json!({"hostname": "app.test", "caCertificates": &believed});
    let backends = [
        backend(HTTP1, "http1", by_name.clone()),
        backend(BOTH, "http2", by_name.clone()),
        backend(BOTH, "auto", by_name.clone()),
        backend(HTTP1, "auto", by_name.clone()),
        backend(BOTH, "auto", json!({"caCertificates": &believed})),
        backend(HTTP1, "http2", by_name),
    ];
    let server = ca.issue("server", "DNS:app.test,IP:10.7.0.2");
    let tls = Tls::start(mode, &server, &believed, &backends, |config| config);
    let http2 = ["--http2-prior-knowledge"];
    // The second request is over a connection that is kept.
    for _ in 0..2 {
        assert_eq!(tls.ask(0, "/", &[]), ok("HTTP/1.1 app.test NONE"));
        assert_eq!(tls.ask(0, "/", &http2), ok("HTTP/1.1 app.test NONE"));
        assert_eq!(tls.ask(1, "/", &[]), ok("HTTP/2.0 app.test NONE"));
        assert_eq!(tls.ask(1, "/", &http2), ok("HTTP/2.0 app.test NONE"));
        assert_eq!(tls.ask(2, "/", &[]), ok("HTTP/1.1 app.test NONE"));
        assert_eq!(tls.ask(2, "/", &http2), ok("HTTP/2.0 app.test NONE"));
        assert_eq!(tls.ask(3, "/", &http2), ok("HTTP/1.1 app.test NONE"));
        // An address is verified as such, and not told.
        assert_eq!(tls.ask(4, "/", &[]), ok("HTTP/1.1  NONE"));
        assert_eq!(tls.ask(5, "/", &[]), refused());
    }
}
in_modes!(agrees_on_a_protocol: Ebpf);

/// Whoever is not the server that is meant gets no request.
fn speaks_to_nobody_else(mode: Mode) {
    let (ca, other) = (Authority::new(), Authority::new());
    let (believed, others) = (ca.certificate(), other.certificate());
    let backends = [
        backend(HTTP1, "auto", json!({"hostname": "app.test", "caCertificates": others})),
        backend(HTTP1, "auto", json!({"hostname": "other.test", "caCertificates": &believed})),
        backend(HTTP1, "auto", json!({"hostname": "app.test"})),
        backend(HTTP1, "auto", json!({"hostname": "app.test", "caCertificates": "system"})),
        backend(PLAIN, "auto", json!({"hostname": "app.test", "caCertificates": &believed})),
        backend(HTTP1, "auto", json!({"hostname": "other.test", "insecureSkipVerify": true})),
    ];
    let tls = Tls::start(mode, &ca.issue("server", "DNS:app.test"), &believed, &backends, |config| config);
    for number in 0..5 {
        let path = format!("/secret-{number}");
        assert_eq!(tls.ask(number, &path, &[]), refused(), "{number}");
        assert_eq!(tls.flags(&path), "UF");
    }
    assert_eq!(tls.ask(5, "/anyone", &[]), ok("HTTP/1.1 other.test NONE"));
    let seen = eventually(DEADLINE, "the server's log", || {
        Some(tls.seen_by_server()).filter(|seen| seen.contains("/anyone TLSv1.3"))
    });
    assert!(!seen.contains("secret"), "{seen}");
}
in_modes!(speaks_to_nobody_else: Ebpf);

/// openssl as a server that ends the handshake with who shows no certificate.
fn strict(net: &Pair, server: &Certificate, believed: &Path) -> Program {
    let mut command = net.peer.place().command("openssl");
    command.args([
        "s_server",
        "-www",
        "-Verify",
        "1",
        "-verify_return_error",
        "-accept",
        &STRICT.to_string(),
    ]);
    command.arg("-cert").arg(&server.chain).arg("-key").arg(&server.key).arg("-CAfile").arg(believed);
    let mut program = Program::start(&mut command);
    program.wait_for_output("ACCEPT");
    program
}

/// The proxy shows its own certificate; without one, it hears after its own part of the handshake that one is wanted.
fn shows_its_certificate(mode: Mode) {
    let ca = Authority::new();
    let believed = ca.certificate();
    let own = ca.issue("sidecar", "DNS:sidecar.test");
    let with = json!({"hostname": "app.test", "caCertificates": &believed,
                      "clientCertificate": own.chain, "clientKey": own.key});
    let without = json!({"hostname": "app.test", "caCertificates": &believed});
    let backends = [
        backend(MUTUAL, "auto", with.clone()),
        backend(STRICT, "auto", with),
        backend(STRICT, "auto", without.clone()),
        backend(MUTUAL, "auto", without),
    ];
    let server = ca.issue("server", "DNS:app.test");
    let tls = Tls::start(mode, &server, &believed, &backends, |config| config);
    let _strict = strict(&tls.net, &server, &believed);
    assert_eq!(tls.ask(0, "/", &[]), ok("HTTP/1.1 app.test SUCCESS"));
    assert_eq!(tls.ask(1, "/", &[]).0, 200);
    assert_eq!(tls.ask(2, "/none", &[]), refused());
    assert_eq!(tls.flags("/none"), "UF");
    // nginx says it as an answer.
    assert_eq!(tls.ask(3, "/", &[]).0, 400);
}
in_modes!(shows_its_certificate: Ebpf);

/// Health checks go the way of requests: an endpoint that does not speak TLS is left out.
fn checks_health(mode: Mode) {
    let ca = Authority::new();
    let believed: PathBuf = ca.certificate();
    let endpoints = json!([{"address": crate::at(PEER4, HTTP1)}, {"address": crate::at(PEER4, PLAIN)}]);
    let tls = json!({"hostname": "app.test", "caCertificates": &believed});
    let backends = [json!({"endpoints": endpoints, "protocol": "http1", "tls": tls})];
    let policy = json!({
        "targetRefs": [{"group": "sidecar.dev", "kind": "Backend", "name": format!("b{FRONT}")}],
        "loadBalancer": {"type": "RoundRobin"},
        "healthCheck": {"http": {"path": "/health"}, "interval": "100ms"},
    });
    let server = ca.issue("server", "DNS:app.test");
    let tls = Tls::start(mode, &server, &believed, &backends, |config| {
        config.with_object("TrafficPolicy", "health", policy)
    });
    eventually(DEADLINE, "a health check over TLS", || {
        tls.seen_by_server().contains("/health TLSv1.3").then_some(())
    });
    // Each in its turn: two good answers in a row are one endpoint's.
    eventually(DEADLINE, "the other endpoint to be left out", || {
        (0..2).all(|_| tls.ask(0, "/", &[]).0 == 200).then_some(())
    });
    assert!((0..8).all(|_| tls.ask(0, "/", &[]).0 == 200));
}
in_modes!(checks_health: Ebpf);

/// Whom it believes is read again on SIGHUP, also where nothing but the file has changed, and holds for what is sent then.
fn follows_its_files(mode: Mode) {
    let (ca, other) = (Authority::new(), Authority::new());
    let believed = tempfile::NamedTempFile::new().unwrap();
    let believe = |whom: &Authority| {
        std::fs::copy(whom.certificate(), believed.path()).unwrap();
    };
    believe(&ca);
    let server = ca.issue("server", "DNS:app.test");
    let tls = json!({"hostname": "app.test", "caCertificates": believed.path()});
    let backends = [backend(HTTP1, "http1", tls)];
    let mut tls = Tls::start(mode, &server, &ca.certificate(), &backends, |config| config);
    assert_eq!(tls.ask(0, "/", &[]).0, 200);
    believe(&other);
    tls.sidecar.program().signal(Signal::SIGHUP);
    tls.eventually(0, &[], 503);
    assert_eq!(tls.ask(0, "/", &[]), refused());
    believe(&ca);
    tls.sidecar.program().signal(Signal::SIGHUP);
    tls.eventually(0, &[], 200);
}
in_modes!(follows_its_files: Ebpf);
