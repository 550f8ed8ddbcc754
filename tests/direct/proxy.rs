//! `sidecar proxy` without interception: a reverse proxy that records, and that asks on a schedule.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Place, Program, binary, eventually};
use tempfile::TempDir;

/// An application that says what it was sent, and how often it was asked.
struct Application {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Application {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who asked may be gone.
                let _ = Self::answer(&stream);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, asked }
    }

    /// 404 where that is asked for; the body comes back in capitals.
    fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        let (head, length) = loop {
            let length = stream.read(&mut piece)?;
            if length == 0 {
                return Ok(());
            }
            text.extend_from_slice(&piece[..length]);
            let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
            let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = value.map_or(0, |value| value.parse().unwrap());
            if text.len() >= end + 4 + length {
                break (head, length);
            }
        };
        let body = text[text.len() - length..].to_ascii_uppercase();
        let status = if head.contains(" /missing ") { "404 Not Found" } else { "200 OK" };
        let fields = "set-cookie: secret=1\r\nx-answer: yes\r\nconnection: close";
        write!(stream, "HTTP/1.1 {status}\r\n{fields}\r\ncontent-length: {}\r\n\r\n", body.len())?;
        stream.write_all(&body)
    }
}

/// A port that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A proxy with this in its `spec` before the application, and its file.
struct Proxy {
    program: Program,
    directory: TempDir,
    front: SocketAddr,
    metrics: SocketAddr,
    application: Application,
    fixed: Value,
}

impl Proxy {
    fn start(more: &Value) -> Self {
        let application = Application::start();
        let [front, metrics, admin, health] = [(); 4].map(|()| free_port());
        let fixed = json!({
            "interception": {"mode": "none"},
            "ports": {"admin": admin.to_string(), "metrics": metrics.to_string(), "health": health.to_string()},
            "listeners": [{"name": "front", "address": format!("127.0.0.1:{front}"), "forward": "app"}],
        });
        let directory = tempfile::tempdir().unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        write_config(&directory, &fixed, more, application.address);
        let mut command = Place::default().without_capabilities().command(binary());
        command.args(["proxy", "--config"]).arg(directory.path().join("config.json"));
        let program = Program::start(&mut command).ended_by(Signal::SIGTERM);
        let proxy = Self { program, directory, front: at(front), metrics: at(metrics), application, fixed };
        eventually(DEADLINE, "the proxy", || TcpStream::connect(proxy.front).ok().map(drop));
        proxy
    }

    fn reload(&self, more: &Value) {
        write_config(&self.directory, &self.fixed, more, self.application.address);
    }

    /// The lines of its access log that have this key.
    fn logged(&self, key: &str) -> Vec<Value> {
        let text = self.program.stderr();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| !line[key].is_null()).collect()
    }

    fn metric(&self, line: &str) -> bool {
        ask(self.metrics, "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").contains(line)
    }
}

/// JSON is YAML; one document a file.
fn write_config(directory: &TempDir, fixed: &Value, more: &Value, application: SocketAddr) {
    let mut spec = fixed.clone();
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let proxy = json!({"apiVersion": "sidecar.dev/v1alpha1", "kind": "ProxyConfig", "metadata": {"name": "a"}, "spec": spec});
    let endpoints = json!([{"address": application.to_string()}]);
    let backend = json!({"apiVersion": "sidecar.dev/v1alpha1", "kind": "Backend", "metadata": {"name": "app"},
        "spec": {"protocol": "http1", "endpoints": endpoints}});
    let path = directory.path().join("config.json");
    std::fs::write(directory.path().join("new"), format!("{proxy}\n---\n{backend}\n")).unwrap();
    std::fs::rename(directory.path().join("new"), path).unwrap();
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_and_answers_are_recorded_without_secrets() {
    let record = json!({"requestHeaders": "true", "responseHeaders": "true", "body": "8B"});
    let proxy = Proxy::start(&json!({"accessLog": {"record": record}}));
    let fields =
        "host: a\r\nauthorization: Bearer top\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 12\r\nconnection: close";
    let answer = ask(proxy.front, &format!("POST /echo HTTP/1.1\r\n{fields}\r\n\r\nhello, world"));
    assert!(answer.ends_with("\r\n\r\nHELLO, WORLD"), "{answer}");
    let line = eventually(DEADLINE, "its line", || proxy.logged("requestHeaders").into_iter().next());
    assert_eq!(line["requestHeaders"]["authorization"], "[redacted]", "{line}");
    assert_eq!(line["requestHeaders"]["x-a"], json!(["1", "2"]), "{line}");
    assert_eq!(
        (&line["responseHeaders"]["set-cookie"], &line["responseHeaders"]["x-answer"]),
        (&"[redacted]".into(), &"yes".into())
    );
    assert_eq!(line["requestBody"], json!({"text": "hello, w", "truncated": true}));
    assert_eq!(line["responseBody"], json!({"text": "HELLO, W", "truncated": true}));
    assert_eq!((&line["requestBytes"], &line["responseBytes"]), (&12.into(), &12.into()));
    assert!(!proxy.program.stderr().contains("Bearer top"));
}

/// Nothing of it is in the line of who did not ask for it.
#[test]
fn nothing_is_recorded_by_default() {
    let proxy = Proxy::start(&json!({}));
    ask(proxy.front, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let line = eventually(DEADLINE, "its line", || proxy.logged("method").into_iter().next());
    for key in ["requestHeaders", "responseHeaders", "requestBody", "responseBody"] {
        assert!(line.get(key).is_none(), "{line}");
    }
}

#[test]
fn the_application_is_asked_on_a_schedule() {
    let probe = |name: &str, path: &str| {
        json!({"name": name, "backend": "app", "path": path, "method": "POST", "interval": "50ms",
        "headers": [{"name": "x-probe", "value": "yes"}], "expectedStatuses": ["200"], "logBody": "1KiB"})
    };
    let gone =
        json!({"name": "gone", "url": format!("http://127.0.0.1:{}", free_port()), "interval": "50ms"});
    let proxy =
        Proxy::start(&json!({"probes": [probe("well", "/hello"), probe("missing", "/missing"), gone]}));
    for (name, status, expected) in [("well", 200, true), ("missing", 404, false), ("gone", 0, false)] {
        let line = eventually(DEADLINE, name, || {
            proxy.logged("probe").into_iter().find(|line| line["probe"] == name)
        });
        assert_eq!((&line["status"], &line["expected"]), (&status.into(), &expected.into()), "{line}");
        assert_eq!(line["reason"].is_null(), status != 0, "{line}");
        let counted = format!("sidecar_probe_requests_total{{probe=\"{name}\",code=\"{status}\"}} ");
        eventually(DEADLINE, &counted, || proxy.metric(&counted).then_some(()));
    }
    assert!(proxy.metric("sidecar_probe_success{probe=\"well\"} 1\n"));
    assert!(proxy.metric("sidecar_probe_duration_seconds_count{probe=\"missing\"} "));
    // What is not said any more is not asked any more, nor shown.
    proxy.reload(&json!({"probes": [gone]}));
    eventually(DEADLINE, "the new configuration", || (!proxy.metric("probe=\"well\"")).then_some(()));
    let asked = proxy.application.asked.load(Ordering::Relaxed);
    let before = proxy.logged("probe").len();
    eventually(DEADLINE, "further lines", || (proxy.logged("probe").len() > before + 5).then_some(()));
    assert!(
        proxy.application.asked.load(Ordering::Relaxed) <= asked + 2,
        "one of each may have been under way"
    );
}
