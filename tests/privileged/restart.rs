//! `sidecar init`, then `sidecar proxy` as an ordinary user: restarted under load without a refused connection.

use nix::sys::signal::Signal;
use serde_json::json;
use sidecar_tests::{
    Config, DEADLINE, Finished, Init, Kind, Mode, PEER4, Pair, Probe, eventually, in_modes, probe, rules,
    serve,
};

use crate::captured;

const DIAL: [&str; 4] = ["connect", PEER4, "9000", "--read"];

fn under_load(mode: Mode) {
    let net = Pair::new("restart");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let _echo = serve(&net.peer.place(), Kind::Echo, "0.0.0.0:9001");
    let init = Init::arm(&net.pod, &Config::new(mode).with("timeouts.drain", "2s"), &[]);
    let app = init.app();
    assert!(!captured(&probe(&app, &DIAL)), "nobody listens yet, and onProxyDown is open");

    let mut running = init.proxy();
    eventually(DEADLINE, "the proxy to take over", || {
        assert!(!running.has_ended(), "{}", running.stderr());
        captured(&probe(&app, &DIAL)).then_some(())
    });
    let status = format!("/proc/{}/status", running.pid());
    let status = Finished::of(net.pod.place().command("cat").arg(status)).success();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");

    let load = Probe::hold(&app, &["load", PEER4, "9001"]);
    for _ in 0..3 {
        running.signal(Signal::SIGTERM);
        running.wait();
        running = init.proxy();
        eventually(DEADLINE, "the next proxy to take over", || captured(&probe(&app, &DIAL)).then_some(()));
    }
    let seen = load.finish();
    assert_eq!(seen["errors"], json!({}), "{seen}");
    drop(running);
    init.detach().success();
    assert_eq!(rules(&net.pod), Vec::<String>::new());
    assert!(!captured(&probe(&app, &DIAL)));
}
in_modes!(under_load: Ebpf);
