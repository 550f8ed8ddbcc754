//! HTTP/1.1 that is captured on its way out and has no route: it goes where its client meant it to. Programs are
//! `programs/http_server.py` in one network namespace and `programs/http_client.py` under a sidecar in another.

mod failures;
mod framing;
mod passthrough;

use std::path::PathBuf;

use serde_json::{Value, json};
use sidecar_tests::{
    Config, DEADLINE, Mode, PEER4, Pair, Place, Program, Sidecar, ask_http, eventually, serve_http,
};
use tempfile::TempDir;

/// Where the server is.
const PORT: u16 = 8080;

/// A server and a sidecar between it and its clients. Fields are dropped in order.
struct Http {
    sidecar: Sidecar,
    _server: Program,
    logs: TempDir,
    net: Pair,
}

impl Http {
    #[track_caller]
    fn start(mode: Mode) -> Self {
        let net = Pair::new("http");
        let server = serve_http(&net.peer.place(), PORT);
        let logs = tempfile::tempdir().unwrap();
        let config = Config::new(mode)
            .with("accessLog.format", "json")
            .with("accessLog.path", log_of(&logs).to_str().unwrap())
            .with("limits.maxRequestHeaderBytes", "8KiB");
        let sidecar = Sidecar::start(&net.pod, &config);
        Self { sidecar, _server: server, logs, net }
    }

    /// Runs the client under the sidecar: one of its commands, and what follows host and port.
    #[track_caller]
    fn client(&self, command: &str, rest: &[&str]) -> Vec<Value> {
        client(&self.sidecar.place(), PEER4, command, rest)
    }

    /// Runs these cases, each on a connection of its own.
    #[track_caller]
    fn cases(&self, cases: &[Value]) -> Vec<Value> {
        let seen = self.client("cases", &[&Value::from(cases).to_string()]);
        assert_eq!(seen.len(), cases.len(), "{seen:#?}");
        seen
    }

    /// Sends a text on one connection and reads until that ends.
    #[track_caller]
    fn whole(&self, text: &str) -> Value {
        self.cases(&[case("whole", &[Some(text)], None)]).remove(0)
    }

    /// Sends a text on one connection and reads one answer.
    #[track_caller]
    fn one(&self, text: &str) -> Value {
        self.cases(&[case("one", &[Some(text)], Some(1))]).remove(0)["answers"][0].take()
    }

    /// What the server says that it saw, asked past the sidecar.
    #[track_caller]
    fn seen_by_server(&self) -> Value {
        let asked = case("count", &[Some(&get("/count"))], Some(1)).to_string();
        let seen = client(&self.net.peer.place(), "127.0.0.1", "cases", &[&format!("[{asked}]")]);
        serde_json::from_str(seen[0]["answers"][0]["body"].as_str().unwrap()).unwrap()
    }

    /// The headers that came to the server, each as it came.
    #[track_caller]
    fn heads(&self) -> Vec<String> {
        serde_json::from_value(self.seen_by_server()["heads"].take()).unwrap()
    }

    /// Waits for the access log's line about a request for this path.
    #[track_caller]
    fn logged(&self, path: &str) -> Value {
        eventually(DEADLINE, &format!("a line about {path} in the access log"), || {
            let text = std::fs::read_to_string(log_of(&self.logs)).ok()?;
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["path"] == path)
        })
    }

    /// Waits until so many requests are counted under these labels.
    #[track_caller]
    fn counted(&self, method: &str, code: u16, flags: &str, wanted: u64) {
        let sample = format!(
            "sidecar_requests_total{{direction=\"outbound\",route=\"passthrough\",backend=\"passthrough\",\
             method=\"{method}\",code=\"{code}\",flags=\"{flags}\"}} {wanted}"
        );
        eventually(DEADLINE, &sample, || {
            let metrics = self.sidecar.ask("metrics", "/metrics", &[]).success();
            metrics.lines().any(|line| line == sample).then_some(())
        });
    }
}

fn log_of(logs: &TempDir) -> PathBuf {
    logs.path().join("access.log")
}

#[track_caller]
fn client(place: &Place, host: &str, command: &str, rest: &[&str]) -> Vec<Value> {
    ask_http(place, &[&[command, host, &PORT.to_string()], rest].concat())
}

/// A case for the client: what it sends, where `None` reads an answer, and how many answers it reads after that;
/// `None`: until the connection ends.
fn case(name: &str, steps: &[Option<&str>], answers: Option<u32>) -> Value {
    json!({"name": name, "steps": steps, "answers": answers})
}

/// A request for this path.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}
