//! Under load: no request fails, and each is answered by one version or the next.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use sidecar_tests::{
    DEADLINE, Finished, Mode, Nginx, Program, Sidecar, eventually, in_modes, python, require,
};

use super::super::Way;
use super::super::scene::{Scene, config, network};
use super::{GENERATION, version};

/// How often the configuration changes.
const RELOADS: u32 = 50;
/// The port of the server, which takes more than the ones in Python.
const SERVER: u16 = 9100;
/// A round of requests, and how many rounds there are at most.
const ROUND: &str = "400";
const MOST_ROUNDS: u32 = 100;

/// How a version gets to where the sidecar reads it.
#[derive(Clone, Copy)]
enum Change {
    /// One file takes the place of another.
    Rename,
    /// A directory is swapped by its link, as a kubelet does with a `ConfigMap`.
    Link,
}

impl Change {
    /// What `--config` names.
    fn place(self, directory: &Path) -> PathBuf {
        match self {
            Self::Rename => directory.join("config.yaml"),
            Self::Link => directory.to_owned(),
        }
    }

    fn put(self, directory: &Path, generation: u32, text: &str) {
        match self {
            Self::Rename => {
                let new = directory.join("new");
                fs::write(&new, text).unwrap();
                fs::rename(new, directory.join("config.yaml")).unwrap();
            }
            Self::Link => {
                let version = format!("..{generation}");
                fs::create_dir(directory.join(&version)).unwrap();
                fs::write(directory.join(&version).join("config.yaml"), text).unwrap();
                swap(directory, &version, "..data");
                if generation == 0 {
                    swap(directory, "..data/config.yaml", "config.yaml");
                } else {
                    fs::remove_dir_all(directory.join(format!("..{}", generation - 1))).unwrap();
                }
            }
        }
    }
}

/// Puts a link in the place of another at once.
fn swap(directory: &Path, to: &str, name: &str) {
    symlink(to, directory.join("..tmp")).unwrap();
    fs::rename(directory.join("..tmp"), directory.join(name)).unwrap();
}

/// Every second version is announced by SIGHUP, the others are found.
#[track_caller]
fn reloads(way: Way, mode: Mode, change: Change) {
    require!(program "h2load");
    require!(program "nginx");
    let (net, logs, directory) = (network(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _nginx = Nginx::serving(
        &net.peer,
        &net.peer.place(),
        SERVER,
        // A connection is closed by it now and then, too.
        &format!("keepalive_requests 50; server {{ listen 0.0.0.0:{SERVER}; return 200 'hello'; }}"),
    );
    let text = |generation| config(way, mode, &logs, version(way, generation, &[SERVER])).text();
    change.put(directory.path(), 0, &text(0));
    let sidecar = Sidecar::start_by(&net.pod.place(), &net.pod, &change.place(directory.path()));
    let texts: Vec<String> = (0..=RELOADS).map(text).collect();
    let mut scene = Scene::of(way, net, logs, sidecar);

    let args = scene.client_args("watch", &["/watched", GENERATION]);
    let mut watch = Program::start(python(&scene.from(), "http_client.py").args(args));
    watch.wait_for_output("0\n");
    let done = AtomicBool::new(false);
    let from = scene.from();
    let rounds = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let rounds = (0..MOST_ROUNDS).take_while(|_| !done.load(Ordering::Relaxed));
            rounds.map(|round| load(&from, way, round)).count()
        });
        // What goes wrong here must end the load as well.
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for generation in 1..=RELOADS {
                change.put(directory.path(), generation, &texts[generation as usize]);
                if generation.is_multiple_of(2) {
                    scene.sidecar.program().signal(Signal::SIGHUP);
                }
                let seen = || watch.stdout().ends_with(&format!("\n{generation}\n")).then_some(());
                eventually(DEADLINE, &format!("version {generation} to be seen"), seen);
                scene.counted("sidecar_config_generation", u64::from(generation) + 1);
            }
        }));
        done.store(true, Ordering::Relaxed);
        let rounds = load.join();
        changes.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(rounds > 1, "load in one protocol only");
    watch.close_stdin();
    let said = watch.wait().success();
    let versions: Vec<String> = (0..=RELOADS).map(|generation| generation.to_string()).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), versions, "each version once, in their order");
    assert_eq!(scene.metric("sidecar_config_rejected_total"), 0);
    let failed =
        scene.metric_sum("sidecar_requests_total", |labels| !labels.contains("code=\"200\",flags=\"\""));
    assert_eq!(failed, 0);
}

/// Some requests in one protocol, of which none may fail.
#[track_caller]
fn load(from: &sidecar_tests::Place, way: Way, round: u32) {
    let (host, port) = way.dialled();
    let mut h2load = from.command("h2load");
    h2load.args(["-n", ROUND, "-c", "4", "--rps", "50", "--connection-active-timeout", "30"]);
    if round.is_multiple_of(2) {
        h2load.arg("--h1");
    } else {
        h2load.args(["-m", "4"]);
    }
    let said = Finished::of(h2load.arg(format!("http://{host}:{port}/load"))).success();
    let all = format!("{ROUND} done, {ROUND} succeeded, 0 failed, 0 errored, 0 timeout");
    assert!(said.contains(&all), "{said}");
}

fn renamed_outbound(mode: Mode) {
    reloads(Way::Outbound, mode, Change::Rename);
}
in_modes!(renamed_outbound: Ebpf);

fn config_map_inbound(mode: Mode) {
    reloads(Way::Inbound, mode, Change::Link);
}
in_modes!(config_map_inbound: Ebpf);
