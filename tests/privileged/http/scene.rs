//! A sidecar with routes and policies between its clients and several servers: `programs/backends.py`, on the ports
//! [`BACKENDS`] of the peer, and by way of [`Way::Inbound`] one on port [`PORT`] under the sidecar itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use sidecar_tests::{
    Config, DEADLINE, Mode, Netns, PEER4, POD4, Pair, Place, Program, Sidecar, ask_http, eventually,
    serve_backends,
};
use tempfile::TempDir;

use super::documents::service;
use super::{FRONT, PORT, Way, case, line_about, log_of};

/// Where the servers are.
pub(super) const BACKENDS: [u16; 3] = [9001, 9002, 9003];
/// The cluster IP of the Service `web`.
pub(super) const CLUSTER_IP: &str = "10.96.0.10";

/// A sidecar, its servers and its clients. Fields are dropped in order.
pub(super) struct Scene {
    pub sidecar: Sidecar,
    _servers: Vec<Program>,
    pub logs: TempDir,
    pub way: Way,
    pub net: Pair,
}

/// An answer, as the client saw it.
#[derive(Debug)]
pub(super) struct Reply(pub Value);

impl Scene {
    /// With these documents.
    #[track_caller]
    pub(super) fn start(way: Way, mode: Mode, documents: impl IntoIterator<Item = Value>) -> Self {
        let (net, logs) = (network(), tempfile::tempdir().unwrap());
        let sidecar = Sidecar::start(&net.pod, &config(way, mode, &logs, documents));
        Self::of(way, net, logs, sidecar)
    }

    /// With a sidecar that runs already in this network.
    #[track_caller]
    pub(super) fn of(way: Way, net: Pair, logs: TempDir, sidecar: Sidecar) -> Self {
        let mut servers = vec![serve_backends(&net.peer.place(), &BACKENDS)];
        if way == Way::Inbound {
            servers.push(serve_backends(&sidecar.place(), &[PORT]));
        }
        Self { sidecar, _servers: servers, logs, way, net }
    }

    /// Where clients are.
    pub(super) fn from(&self) -> Place {
        if self.way == Way::Outbound { self.sidecar.place() } else { self.net.peer.place() }
    }

    /// The arguments of a command of the client.
    pub(super) fn client_args<'a>(&self, command: &'a str, rest: &[&'a str]) -> Vec<String> {
        let (host, port) = self.way.dialled();
        let mut args = vec![command.to_owned(), host.to_owned(), port.to_string()];
        args.extend(rest.iter().map(|&word| word.to_owned()));
        args
    }

    /// Sends these requests one after another on one connection, and reads an answer to each.
    #[track_caller]
    pub(super) fn all(&self, requests: &[String]) -> Vec<Reply> {
        let steps: Vec<_> = requests.iter().flat_map(|text| [Some(text.as_str()), None]).collect();
        let case = case("all", &steps, Some(0));
        let args = self.client_args("cases", &[]);
        let cases = format!("[{case}]");
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.push(&cases);
        let mut seen = ask_http(&self.from(), &args).remove(0);
        let answers: Vec<_> = seen["answers"].as_array_mut().unwrap().drain(..).map(Reply).collect();
        assert_eq!(answers.len(), requests.len(), "{}: {answers:#?}", seen["end"]);
        answers
    }

    /// How often each server answered these requests, which were sent on one connection.
    #[track_caller]
    pub(super) fn shares(&self, requests: &[String]) -> BTreeMap<u16, usize> {
        let mut shares = BTreeMap::new();
        for reply in self.all(requests) {
            *shares.entry(reply.port()).or_insert(0) += 1;
        }
        shares
    }

    /// Sends one request and reads its answer.
    #[track_caller]
    pub(super) fn one(&self, request: &str) -> Reply {
        self.all(&[request.to_owned()]).remove(0)
    }

    /// Asks for this path.
    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Reply {
        self.one(&get(path, &[]))
    }

    /// Asks for this path with these fields.
    #[track_caller]
    pub(super) fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.one(&get(path, fields))
    }

    /// Tells the server on this port, past the sidecar, and gives what it says.
    #[track_caller]
    pub(super) fn tell(&self, port: u16, query: &str) -> Value {
        let netns = if port == PORT { &self.net.pod } else { &self.net.peer };
        let said = fetch(netns, port, &format!("/control?{query}"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// The requests that came to the server on this port.
    #[track_caller]
    pub(super) fn seen(&self, port: u16) -> Vec<Value> {
        self.tell(port, "")["seen"].as_array().unwrap().clone()
    }

    /// Waits for the access log's line about a request for this path.
    #[track_caller]
    pub(super) fn logged(&self, path: &str) -> Value {
        line_about(&self.logs, path)
    }

    /// The value of a sample of the metrics, by its name and labels; 0 where there is none yet.
    #[track_caller]
    pub(super) fn metric(&self, sample: &str) -> u64 {
        let metrics = fetch(&self.net.pod, self.sidecar.port("metrics"), "/metrics");
        let found = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        found.map_or(0, |value| value.parse().unwrap())
    }

    /// The sum of a metric's samples whose labels are such.
    #[track_caller]
    pub(super) fn metric_sum(&self, name: &str, such: impl Fn(&str) -> bool) -> u64 {
        let metrics = fetch(&self.net.pod, self.sidecar.port("metrics"), "/metrics");
        let samples =
            metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
        samples.filter(|(labels, _)| such(labels)).map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    /// Waits until a sample of the metrics has this value.
    #[track_caller]
    pub(super) fn counted(&self, sample: &str, wanted: u64) {
        eventually(DEADLINE, &format!("{sample} {wanted}"), || (self.metric(sample) == wanted).then_some(()));
    }
}

impl Reply {
    #[track_caller]
    pub(super) fn status(&self) -> u64 {
        self.0["status"].as_u64().unwrap()
    }

    /// A field of its header.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0["headers"][name].as_str()
    }

    /// Its body.
    pub(super) fn body(&self) -> &str {
        self.0["body"].as_str().unwrap_or_default()
    }

    /// What the server was asked.
    #[track_caller]
    pub(super) fn asked(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|error| panic!("{error}: {:#}", self.0))
    }

    /// The port of the server that answered.
    #[track_caller]
    pub(super) fn port(&self) -> u16 {
        self.field("x-port").unwrap_or_else(|| panic!("no server's: {:#}", self.0)).parse().unwrap()
    }

    /// It is an answer of the sidecar itself.
    #[track_caller]
    pub(super) fn is_own(&self, status: u64, reason: &str) {
        let seen = (self.status(), self.field("x-sidecar-reason"));
        assert_eq!(seen, (status, Some(reason)), "{:#}", self.0);
    }

    /// It is the answer of the server on this port, with this status.
    #[track_caller]
    pub(super) fn is_of(&self, port: u16, status: u64) {
        assert_eq!((self.status(), self.field("x-port")), (status, Some(&*port.to_string())), "{:#}", self.0);
    }
}

impl Way {
    /// The parent of its routes.
    pub(super) fn parent(self) -> Value {
        match self {
            Self::Outbound => json!({"group": "", "kind": "Service", "name": "web", "port": 80}),
            Self::Inbound => json!({"group": "sidecar.dev", "kind": "Inbound", "port": PORT}),
            Self::Listener => json!({"group": "sidecar.dev", "kind": "Listener", "name": "front"}),
        }
    }

    /// The target of policies for all that comes this way.
    pub(super) fn target(self) -> Value {
        match self {
            Self::Outbound => json!({"group": "", "kind": "Service", "name": "web"}),
            other => other.parent(),
        }
    }

    /// What its clients dial.
    pub(super) fn dialled(self) -> (&'static str, u16) {
        match self {
            Self::Outbound => (CLUSTER_IP, 80),
            Self::Inbound => (POD4, PORT),
            Self::Listener => (POD4, FRONT),
        }
    }
}

/// A pair whose pod has a way to cluster IPs, as a node has.
pub(super) fn network() -> Pair {
    let net = Pair::new("scene");
    net.pod.ip(&["route", "add", "10.96.0.0/16", "via", PEER4]);
    net
}

/// The configuration of a scene.
pub(super) fn config(
    way: Way,
    mode: Mode,
    logs: &TempDir,
    documents: impl IntoIterator<Item = Value>,
) -> Config {
    let mut config = Config::new(mode)
        .with("accessLog.format", "json")
        .with("accessLog.path", log_of(logs).to_str().unwrap());
    match way {
        Way::Outbound => config = config.with_documents([service("web", CLUSTER_IP, &[("http", 80)])]),
        Way::Inbound => {}
        Way::Listener => {
            let front = json!([{"name": "front", "address": format!("0.0.0.0:{FRONT}")}]);
            config = config.with("interception.mode", "none").with("listeners", front);
        }
    }
    config.with_documents(documents)
}

/// A request for this path.
pub(super) fn get(path: &str, fields: &[(&str, &str)]) -> String {
    request("GET", path, fields)
}

/// A request without a body; its host is `web`, unless a field says another.
pub(super) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if fields.iter().all(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        text.push_str("Host: web\r\n");
    }
    for (name, value) in fields {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    text + "\r\n"
}

/// The body of the answer to a request on the loopback of a network namespace, past any sidecar.
#[track_caller]
pub(super) fn fetch(netns: &Netns, port: u16, path: &str) -> String {
    let read = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        // HTTP/1.0: the answer ends with the connection.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: test\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = netns.enter(read).unwrap_or_else(|error| panic!("{path} of port {port}: {error}"));
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}")).1.to_owned()
}
