use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::{Registry, reload};

use super::*;
use crate::admin::endpoints::AdminState;
use crate::admin::serve::{Limits, bind_unix, serve};
use crate::net::addrs::{ClientAddr, ConnectionId, Direction};
use crate::observe::close_reason::CloseReason;
use crate::observe::log::LogLevel;
use crate::observe::table::{ConnectionTable, Opening, Probe, Probed, Tracked};

const DEADLINE: Duration = Duration::from_secs(10);

struct NoProbe;

impl Probe for NoProbe {
    fn probe(&self) -> Probed {
        Probed::default()
    }
}

/// An instance with a control socket, until it is dropped.
struct Running {
    table: ConnectionTable,
    _filter: reload::Layer<EnvFilter, Registry>,
    _server: JoinSet<()>,
}

impl Running {
    fn start(run_dir: &Path, name: &str) -> Self {
        let directory = run_dir.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let table = ConnectionTable::new(name.into(), 8);
        let (filter, log_level) = LogLevel::new("info").unwrap();
        let config_json = Arc::new(|| serde_json::Value::Null);
        let ladder = crate::bypass::Current::none("a test");
        let control = mpsc::channel(1).0;
        let state = AdminState { table: table.clone(), config_json, ladder, log_level, control };
        let mut server = JoinSet::new();
        let socket = bind_unix(&directory.join("control.sock")).unwrap();
        server.spawn(serve(socket, Limits::default(), state));
        Self { table, _filter: filter, _server: server }
    }

    fn open(&self, id: u64, direction: Direction) -> Tracked {
        self.table.open(Opening {
            id: ConnectionId(id),
            direction,
            source: ClientAddr("10.0.0.1:1000".parse().unwrap()),
            original_destination: None,
            program: None,
            probe: Weak::<NoProbe>::new(),
        })
    }
}

/// A directory where an instance died, leaving its socket behind.
fn dead(run_dir: &Path, name: &str) {
    std::fs::create_dir(run_dir.join(name)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(run_dir.join(name).join("control.sock")).unwrap());
}

async fn listed(args: &Args, run_dir: &Path) -> (anyhow::Result<()>, String, String) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let done = list(args, run_dir, &mut Streams { out: &mut out, notes: &mut notes }).await;
    (done, String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap())
}

fn json() -> Args {
    Args { output: Output::Json, ..Args::default() }
}

#[tokio::test]
async fn all_instances_are_one_sorted_list_and_dead_ones_are_noted() {
    let run_dir = tempfile::tempdir().unwrap();
    let (b, a) = (Running::start(run_dir.path(), "b"), Running::start(run_dir.path(), "a"));
    dead(run_dir.path(), "c");
    std::fs::create_dir(run_dir.path().join("armed-only")).unwrap();
    let _open = [
        b.open(1, Direction::Outbound),
        a.open(3, Direction::Outbound),
        a.open(2, Direction::Outbound),
        a.open(9, Direction::Inbound),
    ];
    let (done, out, notes) = listed(&json(), run_dir.path()).await;
    done.unwrap();
    let list: Vec<Snapshot> = serde_json::from_str(&out).unwrap();
    let order: Vec<_> = list.iter().map(|one| (one.instance.as_str(), one.id)).collect();
    assert_eq!(order, [("a", 9), ("a", 2), ("a", 3), ("b", 1)]);
    assert_eq!(notes, "instance c: its proxy is gone; skipped\n");

    let only = Args { instance: Some("b".into()), ..Args::default() };
    let (done, out, notes) = listed(&only, run_dir.path()).await;
    done.unwrap();
    assert_eq!((out.lines().count(), notes.as_str()), (2, ""), "a head and one connection: {out}");
}

#[tokio::test]
async fn nothing_runs() {
    let run_dir = tempfile::tempdir().unwrap();
    let missing = run_dir.path().join("missing");
    let (done, out, notes) = listed(&json(), &missing).await;
    done.unwrap();
    assert_eq!(out, "[]\n");
    assert!(notes.starts_with("no instance has a control socket under "), "{notes}");

    dead(run_dir.path(), "x");
    for name in ["x", "y"] {
        let (done, ..) = listed(&Args { instance: Some(name.into()), ..json() }, run_dir.path()).await;
        done.expect_err("a named instance has to answer");
    }
}

#[tokio::test]
async fn an_instance_that_talks_nonsense_fails_the_command_but_not_the_others() {
    let run_dir = tempfile::tempdir().unwrap();
    let good = Running::start(run_dir.path(), "good");
    let _open = good.open(1, Direction::Inbound);
    std::fs::create_dir(run_dir.path().join("bad")).unwrap();
    let socket = tokio::net::UnixListener::bind(run_dir.path().join("bad/control.sock")).unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            // Not HTTP, and closed at once.
            let _ = stream.try_write(b"nonsense\r\n\r\n");
        }
    });
    let (done, out, notes) = listed(&json(), run_dir.path()).await;
    assert_eq!(done.unwrap_err().to_string(), "1 of 2 instances did not answer");
    assert_eq!(serde_json::from_str::<Vec<Snapshot>>(&out).unwrap().len(), 1);
    assert!(notes.starts_with("instance bad: "), "{notes}");
}

/// What was printed, for a test that reads while it is written.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    async fn wait_for(&self, wanted: &str) {
        let shows = || String::from_utf8_lossy(&self.0.lock().unwrap()).contains(wanted);
        let found = timeout(DEADLINE, async {
            while !shows() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let found = found.await.is_ok();
        assert!(found, "no {wanted:?} in {}", String::from_utf8_lossy(&self.0.lock().unwrap()));
    }
}

#[tokio::test]
async fn a_watch_follows_instances_that_come_and_go() {
    let run_dir = tempfile::tempdir().unwrap();
    let first = Running::start(run_dir.path(), "first");
    let live = first.open(1, Direction::Outbound);
    let (out, notes) = (Screen::default(), Screen::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let mut following = JoinSet::new();
    let (path, mut o, mut n) = (run_dir.path().to_owned(), out.clone(), notes.clone());
    following.spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        let args = Args { watch: true, ..json() };
        follow::follow(&args, &path, &mut Streams { out: &mut o, notes: &mut n }, stopped).await
    });
    out.wait_for(r#"{"event":"live","id":1,"instance":"first""#).await;
    live.close(CloseReason::Finished);
    out.wait_for(r#"{"event":"close","id":1,"instance":"first""#).await;

    let second = Running::start(run_dir.path(), "second");
    let _live = second.open(2, Direction::Inbound);
    out.wait_for(r#""id":2,"instance":"second""#).await;
    drop(first);
    notes.wait_for("instance first: ").await;
    let again = Running::start(run_dir.path(), "first");
    let _live_again = again.open(3, Direction::Outbound);
    out.wait_for(r#""id":3,"instance":"first""#).await;

    stop.send(()).unwrap();
    following.join_next().await.unwrap().unwrap().unwrap();
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{text}");
}

#[tokio::test]
async fn a_reader_that_left_is_recognised() {
    struct Left;
    impl Write for Left {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let run_dir = tempfile::tempdir().unwrap();
    let mut streams = Streams { out: &mut Left, notes: &mut Vec::new() };
    let error = list(&json(), run_dir.path(), &mut streams).await.unwrap_err();
    assert!(is_broken_pipe(&error));
}
