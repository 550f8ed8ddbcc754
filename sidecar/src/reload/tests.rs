use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::config::{Config, Files, Interception, Ports};
use crate::observe::metrics::Metrics;
use crate::observe::table::ConnectionTable;

const DEADLINE: Duration = Duration::from_secs(10);

/// A directory, what runs, and what was swapped in.
struct Bench {
    directory: TempDir,
    live: Live,
    metrics: Metrics,
    swapped: Arc<Mutex<Vec<Config>>>,
}

/// A configuration of this drain time, with more fields of `spec`.
fn text(drain: &str, more: &str) -> String {
    format!(
        "apiVersion: sidecar.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {{name: a}}\nspec:\n  timeouts: {{drain: {drain}}}\n{more}"
    )
}

impl Bench {
    fn new() -> Self {
        let metrics = Metrics::new(ConnectionTable::new("run-1".into(), 1));
        let swapped = Arc::<Mutex<Vec<Config>>>::default();
        let swap = {
            let swapped = Arc::clone(&swapped);
            move |config: &Config| swapped.lock().unwrap().push(config.clone())
        };
        let live = Live::new(Config::default(), metrics.clone(), swap);
        Self { directory: tempfile::tempdir().unwrap(), live, metrics, swapped }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn link(&self, to: &str, name: &str) {
        symlink(to, self.path("new-link")).unwrap();
        fs::rename(self.path("new-link"), self.path(name)).unwrap();
    }

    /// What the metrics say: generation and rejections.
    fn counted(&self) -> (u64, u64) {
        let text = self.metrics.encode().unwrap();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        (value("sidecar_config_generation "), value("sidecar_config_rejected_total "))
    }

    fn drain_time(&self) -> u64 {
        self.live.config().timeouts.drain.as_secs()
    }
}

fn watch(path: &Path) -> Watch {
    Watch::new(path, &Files::read(path)).unwrap()
}

async fn changed(watch: &mut Watch) -> Option<Files> {
    timeout(DEADLINE, watch.changed()).await.unwrap()
}

/// The drain time of the version that is there now, if it is a new one.
async fn new_drain_time(watch: &mut Watch) -> Option<u64> {
    Some(changed(watch).await?.config().unwrap().timeouts.drain.as_secs())
}

#[tokio::test]
async fn a_write_and_a_rename_are_seen_once() {
    let bench = Bench::new();
    let path = bench.write("config.yaml", &text("1s", ""));
    let mut watch = watch(&path);
    assert_eq!(new_drain_time(&mut watch).await, None);
    bench.write("config.yaml", &text("2s", ""));
    assert_eq!(new_drain_time(&mut watch).await, Some(2));
    assert_eq!(new_drain_time(&mut watch).await, None);
    // The same bytes in another file, then others.
    fs::rename(bench.write("config.yaml~", &text("2s", "")), &path).unwrap();
    assert_eq!(new_drain_time(&mut watch).await, None);
    fs::rename(bench.write("config.yaml~", &text("3s", "")), &path).unwrap();
    assert_eq!(new_drain_time(&mut watch).await, Some(3));
}

#[tokio::test]
async fn the_swapped_link_of_a_config_map_is_seen() {
    let bench = Bench::new();
    bench.write("..first/proxy.yaml", &text("1s", ""));
    bench.link("..first", "..data");
    bench.link("..data/proxy.yaml", "proxy.yaml");
    let mut directory = watch(bench.directory.path());
    let mut file = watch(&bench.path("proxy.yaml"));
    bench.write("..second/proxy.yaml", &text("2s", ""));
    assert_eq!(new_drain_time(&mut directory).await, None);
    bench.link("..second", "..data");
    assert_eq!(new_drain_time(&mut directory).await, Some(2));
    assert_eq!(new_drain_time(&mut file).await, Some(2));
    // A further file of the directory.
    bench.write("more.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n");
    assert!(changed(&mut directory).await.is_some());
    assert!(changed(&mut file).await.is_none());
}

/// What is written bit by bit is read when it is complete, and what was put back has not changed.
#[tokio::test]
async fn a_half_written_file_is_not_taken() {
    let bench = Bench::new();
    let path = bench.write("config.yaml", &text("1s", ""));
    let mut watch = watch(&path);
    let whole = text("2s", "  limits: {maxConnections: 5}\n");
    bench.write("config.yaml", &whole[..20]);
    let writer = async {
        for end in 21..26 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            bench.write("config.yaml", &whole[..end]);
        }
        bench.write("config.yaml", &whole);
    };
    let (seen, ()) = tokio::join!(new_drain_time(&mut watch), writer);
    assert_eq!(seen, Some(2));

    bench.write("config.yaml", "");
    let (seen, ()) = tokio::join!(new_drain_time(&mut watch), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        bench.write("config.yaml", &whole);
    });
    assert_eq!(seen, None);
}

#[tokio::test]
async fn a_pipe_is_not_watched() {
    let path = Path::new("/dev/null");
    assert!(Watch::new(path, &Files::read(path)).is_none());
}

#[tokio::test]
async fn a_bad_version_changes_nothing_and_a_good_one_is_taken() {
    let bench = Bench::new();
    let path = bench.write("config.yaml", &text("1s", ""));
    let mut watch = watch(&path);
    assert_eq!(bench.counted(), (1, 0));
    bench.write("config.yaml", &text("never", "  prots: {}\n"));
    bench.live.offer(changed(&mut watch).await.unwrap()).await;
    assert_eq!((bench.counted(), bench.drain_time()), ((1, 1), 30));
    let dump = bench.live.dump();
    let error = dump["rejected"]["errors"][0].as_str().unwrap();
    assert!(error.starts_with(&format!("{}:6: spec.prots: ", path.display())), "{error}");
    assert!(dump["rejected"]["at"].as_str().unwrap().contains('T'), "{dump}");
    assert_eq!((&dump["timeouts"]["drain"], &dump["generation"]), (&"30s".into(), &1.into()));
    assert!(bench.swapped.lock().unwrap().is_empty());

    fs::remove_file(&path).unwrap();
    bench.live.offer(changed(&mut watch).await.unwrap()).await;
    assert!(changed(&mut watch).await.is_none(), "missing is missing");
    assert_eq!(bench.counted(), (1, 2));

    bench.write("config.yaml", &text("2s", ""));
    bench.live.offer(changed(&mut watch).await.unwrap()).await;
    assert_eq!((bench.counted(), bench.drain_time()), ((2, 2), 2));
    let dump = bench.live.dump();
    assert_eq!((&dump["rejected"], &dump["generation"]), (&Value::Null, &2.into()));
    assert_eq!(*bench.swapped.lock().unwrap(), [(*bench.live.config()).clone()]);
}

#[tokio::test]
async fn what_takes_a_restart_stays_and_is_named() {
    let bench = Bench::new();
    let more = "  interception: {mode: none, outbound: {excludePorts: [1]}}\n  ports: {admin: 1234}\n";
    let path = bench.write("config.yaml", &text("2s", more));
    bench.live.offer(Files::read(&path)).await;
    let config = bench.live.config();
    assert_eq!((&config.interception, config.ports), (&Interception::default(), Ports::default()));
    assert_eq!((bench.drain_time(), bench.counted()), (2, (2, 0)));
    let fields = ["spec.interception.mode", "spec.interception.outbound.excludePorts", "spec.ports.admin"];
    assert_eq!(bench.live.dump()["needsRestart"], serde_json::json!(fields));
    bench.write("config.yaml", &text("2s", ""));
    bench.live.offer(Files::read(&path)).await;
    assert_eq!(bench.live.dump()["needsRestart"], serde_json::json!([]));
}

/// Addresses are bound once; where their connections go is not.
#[tokio::test]
async fn listeners_stay_and_may_forward_elsewhere() {
    let backend = |name: &str| {
        format!(
            "---\napiVersion: sidecar.dev/v1alpha1\nkind: Backend\nmetadata: {{name: {name}}}\nspec: {{endpoints: [{{unix: /{name}}}]}}\n"
        )
    };
    let listeners = |list: &str| text("1s", &format!("  listeners: [{list}]\n"));
    let start = listeners(
        "{name: a, address: '127.0.0.1:80', forward: x}, {name: b, address: '127.0.0.1:81', forward: y}",
    ) + &backend("x")
        + &backend("y");
    let mut bench = Bench::new();
    bench.live = Live::new(Config::parse(&start, "f").unwrap(), bench.metrics.clone(), |_| {});
    let next = listeners(
        "{name: a, address: '127.0.0.1:80', forward: z}, {name: c, address: '127.0.0.1:82', forward: z}",
    );
    let path = bench.write("config.yaml", &(next + &backend("z")));
    bench.live.offer(Files::read(&path)).await;
    let config = bench.live.config();
    let places: Vec<_> = config.listeners.iter().map(|l| (l.name.as_str(), l.forward.as_deref())).collect();
    assert_eq!(places, [("a", Some("z")), ("b", Some("y"))]);
    assert_eq!(config.backends.keys().collect::<Vec<_>>(), ["y", "z"]);
    let fields = serde_json::json!(["spec.listeners.c", "spec.listeners.b"]);
    assert_eq!(bench.live.dump()["needsRestart"], fields);
}

/// A changed file is taken without being asked for, and SIGHUP does not end the process.
#[tokio::test]
async fn it_follows_by_itself() {
    let bench = Bench::new();
    let path = bench.write("config.yaml", &text("1s", ""));
    let source = Source { watch: Some(watch(&path)), hangups: Hangups::new().unwrap() };
    let following = tokio::spawn(source.follow(bench.live.clone()));
    for drain in [2, 3] {
        bench.write("config.yaml", &text(&format!("{drain}s"), ""));
        if drain == 3 {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
        }
        let taken = async {
            while bench.drain_time() != drain {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, taken).await.unwrap();
    }
    assert_eq!(bench.counted(), (3, 0));
    following.abort();
}
