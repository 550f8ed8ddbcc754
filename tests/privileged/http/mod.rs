//! HTTP that has no route: it goes where its client meant it to, or where an explicit listener forwards it. Programs are
//! `programs/http_server.py` in one network namespace and `programs/http_client.py` in another, one of them under a sidecar;
//! a scenario that does not say otherwise is about requests captured on their way out. Where there are routes and policies,
//! [`scene`] has the servers and [`documents`] what is said of them.

mod autobahn;
mod curl;
mod detection;
mod documents;
mod failures;
mod faults;
mod framing;
mod grpc;
mod hedge;
mod httpbin;
mod limits;
mod line;
mod load;
mod mirror;
mod nginx;
mod pace;
mod passthrough;
mod policy;
mod reload;
mod routing;
mod scene;
mod scripted;
mod tls_access;
mod tls_upstream;
mod tunnels;
mod upstreams;
mod way_shown;
mod ways;

use std::path::PathBuf;

use serde_json::{Value, json};
use sidecar_tests::{
    Config, DEADLINE, Mode, Netns, PEER4, POD4, Pair, Place, Program, Sidecar, ask_http, eventually,
    serve_http,
};
use tempfile::TempDir;

/// Makes tests of a scenario for each way to the sidecar, in these modes of interception where there is one.
macro_rules! by_every_way {
    ($scenario:ident: $($mode:ident),+) => {
        mod $scenario {
            use sidecar_tests::{Mode, in_modes};

            use crate::http::Way;

            fn outbound(mode: Mode) {
                super::$scenario(Way::Outbound, mode);
            }
            in_modes!(outbound: $($mode),+);

            fn inbound(mode: Mode) {
                super::$scenario(Way::Inbound, mode);
            }
            in_modes!(inbound: $($mode),+);

            fn listener(mode: Mode) {
                super::$scenario(Way::Listener, mode);
            }
            in_modes!(listener: Ebpf);
        }
    };
}
use by_every_way;

/// Where the server is.
const PORT: u16 = 8080;

/// Where an explicit listener is.
const FRONT: u16 = 8083;

/// How requests come to the sidecar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Captured, of a program under it.
    Outbound,
    /// Steered, to a program under it.
    Inbound,
    /// Through an explicit listener.
    Listener,
}

/// A server and a sidecar between it and its clients. Fields are dropped in order.
struct Http {
    sidecar: Sidecar,
    _server: Program,
    logs: TempDir,
    way: Way,
    net: Pair,
}

impl Http {
    #[track_caller]
    fn start(mode: Mode) -> Self {
        Self::by(Way::Outbound, mode)
    }

    #[track_caller]
    fn by(way: Way, mode: Mode) -> Self {
        Self::with(way, mode, |config| config)
    }

    /// With changes to the configuration.
    #[track_caller]
    fn with(way: Way, mode: Mode, change: impl FnOnce(Config) -> Config) -> Self {
        Self::before(PORT, way, mode, change)
    }

    /// Before another server, which a scenario starts on this port.
    #[track_caller]
    fn before(port: u16, way: Way, mode: Mode, change: impl FnOnce(Config) -> Config) -> Self {
        let net = Pair::new("http");
        let logs = tempfile::tempdir().unwrap();
        let config = Config::new(mode)
            .with("accessLog.format", "json")
            .with("accessLog.path", log_of(&logs).to_str().unwrap())
            .with("limits.maxRequestHeaderBytes", "8KiB");
        let sidecar = Sidecar::start(&net.pod, &change(way.configured(config, port)));
        let place = if way == Way::Inbound { sidecar.place() } else { net.peer.place() };
        let server = serve_http(&place, PORT);
        Self { sidecar, _server: server, logs, way, net }
    }

    /// Where servers are.
    fn to(&self) -> Place {
        if self.way == Way::Inbound { self.sidecar.place() } else { self.net.peer.place() }
    }

    /// The network namespace that they are in.
    fn netns(&self) -> &Netns {
        if self.way == Way::Inbound { &self.net.pod } else { &self.net.peer }
    }

    /// Where clients are.
    fn from(&self) -> Place {
        if self.way == Way::Outbound { self.sidecar.place() } else { self.net.peer.place() }
    }

    /// Runs the client: one of its commands, and what follows host and port.
    #[track_caller]
    fn client(&self, command: &str, rest: &[&str]) -> Vec<Value> {
        client(&self.from(), self.way.reached(PORT), command, rest)
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
        let beside = if self.way == Way::Inbound { self.net.pod.place() } else { self.net.peer.place() };
        let seen = client(&beside, ("127.0.0.1", PORT), "cases", &[&format!("[{asked}]")]);
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
        line_about(&self.logs, path)
    }

    /// Waits until so many requests are counted under these labels.
    #[track_caller]
    fn counted(&self, method: &str, code: u16, flags: &str, wanted: u64) {
        let (direction, backend) = self.way.labels();
        let sample = format!(
            "sidecar_requests_total{{direction=\"{direction}\",route=\"passthrough\",backend=\"{backend}\",\
             method=\"{method}\",code=\"{code}\",flags=\"{flags}\"}} {wanted}"
        );
        eventually(DEADLINE, &sample, || {
            let metrics = self.sidecar.ask("metrics", "/metrics", &[]).success();
            metrics.lines().any(|line| line == sample).then_some(())
        });
    }
}

impl Way {
    /// With what it takes to reach a server on this port.
    fn configured(self, config: Config, port: u16) -> Config {
        if self != Self::Listener {
            return config;
        }
        let front = json!([{"name": "front", "address": format!("0.0.0.0:{FRONT}"), "forward": "app"}]);
        let endpoints = json!([{"address": crate::at(PEER4, port)}]);
        config.with("interception.mode", "none").with("listeners", front).with_backend("app", endpoints)
    }

    /// The address that clients of a server on this port dial.
    fn reached(self, port: u16) -> (&'static str, u16) {
        match self {
            Self::Outbound => (PEER4, port),
            Self::Inbound => (POD4, port),
            Self::Listener => (POD4, FRONT),
        }
    }

    /// The direction of its requests, and their backend.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Outbound => ("outbound", "passthrough"),
            Self::Inbound => ("inbound", "passthrough"),
            Self::Listener => ("inbound", "app"),
        }
    }
}

fn log_of(logs: &TempDir) -> PathBuf {
    logs.path().join("access.log")
}

/// Waits for the access log's line about a request for this path.
#[track_caller]
fn line_about(logs: &TempDir, path: &str) -> Value {
    eventually(DEADLINE, &format!("a line about {path} in the access log"), || {
        let text = std::fs::read_to_string(log_of(logs)).ok()?;
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["path"] == path)
    })
}

#[track_caller]
fn client(place: &Place, (host, port): (&str, u16), command: &str, rest: &[&str]) -> Vec<Value> {
    ask_http(place, &[&[command, host, &port.to_string()], rest].concat())
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
