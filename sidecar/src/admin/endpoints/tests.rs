use std::sync::Weak;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::reload;

use super::*;
use crate::admin::health::Health;
use crate::admin::metrics::Scrape;
use crate::admin::readiness::{Condition, Readiness};
use crate::admin::serve::Limits;
use crate::admin::serve::tests::{DEADLINE, Server};
use crate::net::addrs::{ClientAddr, ConnectionId, Direction};
use crate::observe::close_reason::CloseReason;
use crate::observe::metrics::Metrics;
use crate::observe::table::{Opening, Probe, Probed, Tracked};

struct NoProbe;

impl Probe for NoProbe {
    fn probe(&self) -> Probed {
        Probed::default()
    }
}

struct Bench {
    table: ConnectionTable,
    server: Server,
    commands: mpsc::Receiver<ControlCommand>,
    _filter: reload::Layer<EnvFilter, Registry>,
}

impl Bench {
    async fn start() -> Self {
        let table = ConnectionTable::new("run-1".into(), 8);
        let (filter, log_level) = LogLevel::new("info").unwrap();
        let (control, commands) = mpsc::channel(1);
        let config_json = Arc::new(|| serde_json::json!({"generation": 1}));
        let ladder = crate::bypass::Current::none("a test");
        let state = AdminState { table: table.clone(), config_json, ladder, log_level, control };
        let server = Server::start(Limits::default(), state).await;
        Self { table, server, commands, _filter: filter }
    }

    fn open(&self, id: u64) -> Tracked {
        self.table.open(Opening {
            id: ConnectionId(id),
            direction: Direction::Outbound,
            source: ClientAddr("10.0.0.1:1000".parse().unwrap()),
            original_destination: None,
            program: None,
            probe: Weak::<NoProbe>::new(),
        })
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn connections_are_an_array() {
    let bench = Bench::start().await;
    let _tracked = bench.open(7);
    let answer = bench.server.ask("GET", "/connections", "").await;
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    let list: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &7.into()));
}

#[tokio::test]
async fn a_watch_tells_live_opens_and_closes_and_ends_with_its_reader() {
    let bench = Bench::start().await;
    let first = bench.open(1);
    let mut stream = bench.server.connect().await;
    let request = b"GET /connections?watch=true HTTP/1.0\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = async |event: &str, id: u64| loop {
        let line = timeout(DEADLINE, lines.next_line()).await.expect("a line").unwrap().expect("no end");
        if line.starts_with('{') {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&value["event"], &value["id"]), (&event.into(), &id.into()));
            break;
        }
    };
    next("live", 1).await;
    let second = bench.open(2);
    next("open", 2).await;
    first.close(CloseReason::Finished);
    next("close", 1).await;
    drop(second);
    next("close", 2).await;
    drop(lines);
    // Nothing happens on the table: the server has to notice by itself that its reader left.
    timeout(DEADLINE, async {
        while bench.table.watchers() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the watcher is gone");
}

#[tokio::test]
async fn changes_need_post_and_never_come_from_web_pages() {
    let mut bench = Bench::start().await;
    for target in ["/drain", "/quitquitquit", "/logging?level=debug"] {
        let answer = bench.server.ask("GET", target, "").await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: POST\r\n"), "{answer}");
        let answer = bench.server.ask("POST", target, "origin: http://example.com\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    assert!(bench.commands.try_recv().is_err(), "nothing was asked for");
    assert!(bench.server.ask("POST", "/drain", "").await.starts_with("HTTP/1.1 200 "));
    assert!(bench.server.ask("POST", "/quitquitquit", "").await.starts_with("HTTP/1.1 503 "), "queue full");
    assert_eq!(bench.commands.try_recv(), Ok(ControlCommand::Drain));
    assert!(bench.server.ask("POST", "/connections", "").await.contains("allow: GET\r\n"));
    assert!(bench.server.ask("DELETE", "/connections", "").await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn the_log_level_is_shown_and_set() {
    let bench = Bench::start().await;
    assert_eq!(body(&bench.server.ask("GET", "/logging", "").await), "info\n");
    let answer = bench.server.ask("POST", "/logging?level=warn%2Csidecar%3Ddebug", "").await;
    assert!(body(&answer).contains("sidecar=debug"), "{answer}");
    let answer = bench.server.ask("POST", "/logging?level=loud", "").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("is no log level"), "{answer}");
    assert!(bench.server.ask("POST", "/logging", "").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn the_page_lists_what_is_there() {
    let bench = Bench::start().await;
    let answer = bench.server.ask("GET", "/", "").await;
    for (path, method, _) in ENDPOINTS {
        assert!(answer.contains(path), "{path} is missing in {answer}");
        let status = bench.server.ask(if method == "GET" { "HEAD" } else { "POST" }, path, "").await;
        assert!(!status.starts_with("HTTP/1.1 404 "), "{path}: {status}");
    }
    assert_eq!(body(&bench.server.ask("GET", "/config_dump", "").await), r#"{"generation":1}"#);
    assert!(bench.server.ask("GET", "/nowhere", "").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn health_follows_readiness() {
    let readiness = Readiness::new(&[Condition::Armed]);
    let server = Server::start(Limits::default(), Health(readiness.clone())).await;
    let answer = server.ask("GET", "/healthz/ready", "").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(body(&answer), "not ready: programs are not armed\n");
    readiness.met(Condition::Armed);
    assert!(server.ask("GET", "/healthz/ready", "").await.starts_with("HTTP/1.1 200 "));
    readiness.drain();
    assert_eq!(body(&server.ask("GET", "/healthz/ready", "").await), "not ready: draining\n");
    assert!(server.ask("GET", "/healthz/live", "").await.starts_with("HTTP/1.1 200 "));
    assert!(server.ask("GET", "/ready", "").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn metrics_are_openmetrics_under_both_names() {
    let table = ConnectionTable::new("run-1".into(), 8);
    let server = Server::start(Limits::default(), Scrape(Metrics::new(table))).await;
    for path in ["/metrics", "/stats/prometheus"] {
        let answer = server.ask("GET", path, "").await;
        let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(answer.contains(content_type), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }
    assert!(server.ask("GET", "/", "").await.starts_with("HTTP/1.1 404 "));
}
