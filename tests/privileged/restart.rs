//! `sidecar init`, then `sidecar proxy` as an ordinary user: restarted under load without a refused connection.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;
use sidecar_tests::{
    Cgroup, Config, DEADLINE, Finished, Kind, Mode, PEER4, Pair, Place, Probe, Program, binary_for_everyone,
    cli, eventually, in_modes, probe, rules, serve,
};

use crate::captured;

/// The user that is exempt from capture.
const PROXY: u32 = 1337;

const DIAL: [&str; 4] = ["connect", PEER4, "9000", "--read"];

fn proxy(place: &Place, binary: &Path, name: &str, config: &Path) -> Program {
    let mut command = place.clone().as_uid(PROXY).command(binary);
    command.args(["proxy", "--name", name, "--config"]).arg(config);
    Program::start(&mut command).ended_by(Signal::SIGTERM)
}

fn under_load(mode: Mode) {
    let net = Pair::new("restart");
    let cgroup = Cgroup::new("restart");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let _echo = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9001");
    let (directory, binary) = binary_for_everyone();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, Config::new(mode).with("timeouts.drain", "2s").text()).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();

    let name = net.pod.name();
    let pod = net.pod.place();
    // As in a Pod: a container each, below what is armed.
    let [app, beside] = ["app", "proxy"].map(|container| {
        let path = cgroup.path().join(container);
        std::fs::create_dir(&path).unwrap();
        pod.clone().in_cgroup(&path)
    });
    let armed = cgroup.path().to_str().unwrap();
    let detach = Detach { place: pod.clone(), name };
    cli(&pod, &["init", "--name", name, "--config", file.to_str().unwrap(), "--cgroup", armed]).success();
    assert!(!captured(&probe(&app, &DIAL)), "nobody listens yet, and onProxyDown is open");

    let mut running = proxy(&beside, &binary, name, &file);
    eventually(DEADLINE, "the proxy to take over", || {
        assert!(!running.has_ended(), "{}", running.stderr());
        captured(&probe(&app, &DIAL)).then_some(())
    });
    let status = Finished::of(pod.command("cat").arg(format!("/proc/{}/status", running.pid()))).success();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");

    let load = Probe::hold(&app, &["load", PEER4, "9001"]);
    for _ in 0..3 {
        running.signal(Signal::SIGTERM);
        running.wait();
        running = proxy(&beside, &binary, name, &file);
        eventually(DEADLINE, "the next proxy to take over", || captured(&probe(&app, &DIAL)).then_some(()));
    }
    let seen = load.finish();
    assert_eq!(seen["errors"], json!({}), "{seen}");
    drop(running);
    drop(detach);
    assert_eq!(rules(&net.pod), Vec::<String>::new());
    assert!(!captured(&probe(&app, &DIAL)));
}
in_modes!(under_load: Ebpf);

/// Undoes `sidecar init`, also after a panic.
struct Detach<'name> {
    place: Place,
    name: &'name str,
}

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        let _ = cli(&self.place, &["detach", self.name]);
    }
}
