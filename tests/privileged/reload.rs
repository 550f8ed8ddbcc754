//! The configuration changes while it runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sidecar_tests::{Config, DEADLINE, Kind, Mode, PEER4, Pair, Sidecar, eventually, in_modes, serve};

use crate::{at, captured};

/// Of this drain time, which the dump shows.
fn config(mode: Mode, drain: &str) -> Config {
    Config::new(mode).with("timeouts.drain", drain)
}

fn dump(sidecar: &Sidecar) -> Value {
    serde_json::from_str(&sidecar.ask("admin", "/config_dump", &[]).success()).unwrap()
}

/// Waits until the dump says so, and returns it.
#[track_caller]
fn dumped(sidecar: &Sidecar, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(DEADLINE, what, || Some(dump(sidecar)).filter(|dump| wanted(dump)))
}

fn counted(sidecar: &Sidecar) -> (u64, u64) {
    (sidecar.metric("sidecar_config_generation"), sidecar.metric("sidecar_config_rejected_total"))
}

/// Puts a link in the place of another at once, as a kubelet does.
fn swap_link(directory: &Path, to: &str, name: &str) {
    symlink(to, directory.join("..tmp")).unwrap();
    fs::rename(directory.join("..tmp"), directory.join(name)).unwrap();
}

/// A bad file changes nothing and is counted; a good one is taken; connections go on.
fn bad_then_good(mode: Mode) {
    let net = Pair::new("reload");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let mut sidecar = Sidecar::start(&net.pod, &config(mode, "11s"));
    let dial = ["connect", PEER4, "9000", "--read"];
    let held = sidecar.hold(&dial);
    assert_eq!(counted(&sidecar), (1, 0));

    fs::write(sidecar.config_file(), config(mode, "never").text()).unwrap();
    let refused = dumped(&sidecar, "a refusal", |dump| dump["rejected"].is_object());
    let error = refused["rejected"]["errors"][0].as_str().unwrap();
    assert!(error.contains("config.yaml:") && error.contains(": spec.timeouts.drain: "), "{error}");
    assert_eq!((&refused["timeouts"]["drain"], counted(&sidecar)), (&json!("11s"), (1, 1)));
    assert!(sidecar.program().stderr().contains(error), "{}", sidecar.program().stderr());

    fs::write(sidecar.config_file(), config(mode, "12s").text()).unwrap();
    let taken = dumped(&sidecar, "the good one", |dump| dump["timeouts"]["drain"] == "12s");
    assert_eq!((&taken["rejected"], counted(&sidecar)), (&Value::Null, (2, 1)));
    assert!(captured(&sidecar.probe(&dial)));
    sidecar.connection("outbound", &at(PEER4, 9000));
    drop(held);
}
in_modes!(bad_then_good: Ebpf, Iptables);

/// What is armed and bound stays, and is named.
fn needs_restart(mode: Mode) {
    let net = Pair::new("reload-fixed");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let mut sidecar = Sidecar::start(&net.pod, &config(mode, "11s"));
    let changed = config(mode, "12s").with("interception.outbound.excludePorts", [9000]);
    fs::write(sidecar.config_file(), changed.with("ports.admin", 15000).text()).unwrap();
    let taken = dumped(&sidecar, "what can change", |dump| dump["timeouts"]["drain"] == "12s");
    let fields = json!(["spec.interception.outbound.excludePorts", "spec.ports.admin"]);
    assert_eq!(taken["needsRestart"], fields);
    assert!(captured(&sidecar.probe(&["connect", PEER4, "9000", "--read"])));
    let said = sidecar.program().stderr();
    assert_eq!(said.lines().filter(|line| line.contains("takes a restart")).count(), 2, "{said}");
}
in_modes!(needs_restart: Ebpf, Iptables);

/// A mounted `ConfigMap` is swapped at once by its link `..data`.
fn config_map(mode: Mode) {
    let net = Pair::new("reload-map");
    let directory = tempfile::tempdir().unwrap();
    let version = |name: &str, drain: &str| {
        fs::create_dir(directory.path().join(name)).unwrap();
        fs::write(directory.path().join(name).join("proxy.yaml"), config(mode, drain).text()).unwrap();
        swap_link(directory.path(), name, "..data");
    };
    version("..first", "11s");
    swap_link(directory.path(), "..data/proxy.yaml", "proxy.yaml");
    let sidecar = Sidecar::start_by(&net.pod.place(), &net.pod, directory.path());
    version("..second", "12s");
    dumped(&sidecar, "the second version", |dump| dump["timeouts"]["drain"] == "12s");
    assert_eq!(counted(&sidecar), (2, 0));
}
in_modes!(config_map: Ebpf, Iptables);

/// SIGHUP is the sidecar's own: CMD does not see it, and a file that is as it was does not count.
fn hangup(mode: Mode) {
    let net = Pair::new("reload-hup");
    let mut sidecar = Sidecar::start(&net.pod, &config(mode, "11s"));
    sidecar.program().signal(Signal::SIGHUP);
    fs::write(sidecar.config_file(), config(mode, "12s").text()).unwrap();
    sidecar.program().signal(Signal::SIGHUP);
    dumped(&sidecar, "the new version", |dump| dump["timeouts"]["drain"] == "12s");
    assert_eq!(counted(&sidecar), (2, 0));
    assert!(!sidecar.program().has_ended());
}
in_modes!(hangup: Ebpf, Iptables);
