//! `sidecar agent`: Pods are armed while they run, and disarmed, and nothing is left of them.

mod scene;

use std::io::ErrorKind;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sidecar_tests::{
    Config, DEADLINE, Finished, Kind, Mode, PEER4, POD4, Place, Probe, Program, eventually, in_modes, probe,
    python, serve,
};

use self::scene::{Node, Pod};
use crate::captured;

const DIAL: [&str; 4] = ["connect", PEER4, "9000", "--read"];

fn load(place: &Place, host: &str, port: u16) -> Program {
    let mut load = Program::start(python(place, "load.py").arg(host).arg(port.to_string()));
    load.wait_for_output("asking");
    load
}

/// How many requests there were, none of which failed.
#[track_caller]
fn unharmed(mut load: Program) -> u64 {
    load.close_stdin();
    let said = load.wait().success();
    let seen: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(seen["failed"], json!([]), "{seen}");
    seen["new"].as_u64().unwrap() + seen["kept"].as_u64().unwrap()
}

#[track_caller]
fn becomes(pod: &Pod<'_>, armed: bool) {
    eventually(2 * DEADLINE, &format!("the Pod to be captured: {armed}"), || {
        (captured(&probe(&pod.app(), &DIAL)) == armed).then_some(())
    });
}

/// A Pod that runs is armed without a restart, inbound as well, and its proxy is ready only then. Un-enrolled, it goes on
/// without the proxy. Nothing that is asked meanwhile fails.
fn enrolled_under_load(mode: Mode) {
    let node = Node::new();
    let pod = Pod::create(&node, &Config::new(mode), json!({}));
    let _server = serve(&pod.net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let _echo = serve(&pod.net.peer.place(), Kind::Echo, "0.0.0.0:9001");
    let _own = serve(&pod.app(), Kind::Echo, "0.0.0.0:8080");
    let proxy = pod.start_proxy();
    eventually(DEADLINE, "the proxy to listen", || (pod.readiness() == 503).then_some(()));
    let outbound = load(&pod.app(), PEER4, 9001);
    let inbound = load(&pod.net.peer.place(), POD4, 8080);
    assert!(!captured(&probe(&pod.app(), &DIAL)));

    node.start_agent();
    eventually(2 * DEADLINE, "a Pod that is not enrolled to be ready", || {
        (pod.readiness() == 200).then_some(())
    });
    assert!(!captured(&probe(&pod.app(), &DIAL)) && pod.written().is_none());

    for round in 1..=3 {
        node.enrol(true);
        becomes(&pod, true);
        assert_eq!(pod.readiness(), 200);
        let opened = "sidecar_tcp_connections_opened_total{direction=\"inbound\"}";
        let before = pod.metric(opened);
        eventually(DEADLINE, "inbound connections to be captured", || {
            (pod.metric(opened) > before + 10).then_some(())
        });
        pod.is_reported(true);

        node.enrol(false);
        becomes(&pod, false);
        let before = pod.metric(opened);
        assert!(before > 0);
        assert_eq!(pod.readiness(), 200, "traffic comes by itself");
        pod.is_reported(false);
        eventually(DEADLINE, "an event each time", || {
            (pod.events().iter().filter(|event| *event == "Armed").count() == round).then_some(())
        });
    }
    assert!(unharmed(outbound) > 100 && unharmed(inbound) > 100);
    // Nothing is under way any more.
    eventually(2 * DEADLINE, "nothing to be left", || pod.written().is_none().then_some(()));
    assert!(pod.events().contains(&"Disarmed".to_owned()), "{:?}", pod.events());
    drop(proxy);
}
in_modes!(enrolled_under_load: Ebpf);

/// What is armed stays when the agent is killed, and the next one takes it over as it is.
fn outlives_its_agent(mode: Mode) {
    let node = Node::new();
    node.enrol(true);
    let pod = Pod::create(&node, &Config::new(mode), json!({}));
    let _server = serve(&pod.net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let _echo = serve(&pod.net.peer.place(), Kind::Echo, "0.0.0.0:9001");
    let proxy = pod.start_proxy();
    node.start_agent();
    becomes(&pod, true);
    pod.is_reported(true);
    let written = pod.written().unwrap();
    let outbound = load(&pod.app(), PEER4, 9001);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        node.end_agent(signal);
        assert!(captured(&probe(&pod.app(), &DIAL)));
        node.start_agent();
        // It knows the Pod again when it tells another proxy of it, below; until then nothing changes.
        assert_eq!(pod.written().as_ref(), Some(&written));
    }
    unharmed(outbound);
    drop(proxy);
    assert!(!captured(&probe(&pod.app(), &DIAL)), "open: without a proxy it passes");
    let _proxy = pod.start_proxy();
    becomes(&pod, true);
    pod.annotate("sidecar.dev/inject", "false");
    becomes(&pod, false);
    assert!(node.agent_said().contains("disarmed"), "{}", node.agent_said());
}
in_modes!(outlives_its_agent: Ebpf);

/// A Pod of which nothing is left, though the agent has armed it, is armed again when its proxy starts again.
fn arms_again_what_was_lost(mode: Mode) {
    let node = Node::new();
    node.enrol(true);
    let pod = Pod::create(&node, &Config::new(mode), json!({}));
    let _server = serve(&pod.net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let proxy = pod.start_proxy();
    node.start_agent();
    becomes(&pod, true);
    let pins = pod.pins().unwrap();
    if pins.starts_with(pod.state()) {
        Finished::of(Command::new("umount").arg("--lazy").arg(&pins)).success();
    }
    for lost in [pins, pod.state()] {
        let removed = std::fs::remove_dir_all(lost);
        assert!(removed.is_ok() || removed.is_err_and(|error| error.kind() == ErrorKind::NotFound));
    }
    assert!(!captured(&probe(&pod.app(), &DIAL)));
    drop(proxy);
    let _proxy = pod.start_proxy();
    becomes(&pod, true);
}
in_modes!(arms_again_what_was_lost: Ebpf);

/// With `closed`, nothing passes before there is a proxy.
fn closed_is_armed_first(mode: Mode) {
    let node = Node::new();
    node.enrol(true);
    node.start_agent();
    let pod = Pod::create(&node, &Config::new(mode), json!({"sidecar.dev/on-proxy-down": "closed"}));
    let _server = serve(&pod.net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let _pause = Program::start(pod.app().command("sleep").arg("1000"));
    eventually(2 * DEADLINE, "connections to be refused", || {
        (probe(&pod.app(), &DIAL)["error"] == "ECONNREFUSED").then_some(())
    });
    let _proxy = pod.start_proxy();
    becomes(&pod, true);
    assert_eq!(pod.readiness(), 200);
}
in_modes!(closed_is_armed_first: Ebpf);

/// Nothing is left of a Pod that is deleted, also while the API server cannot be reached, or no agent runs.
fn nothing_is_left(mode: Mode, end: impl FnOnce(&Node, &Pod<'_>)) {
    let node = Node::new();
    node.enrol(true);
    node.start_agent();
    let pod = Pod::create(&node, &Config::new(mode), json!({}));
    let _server = serve(&pod.net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let proxy = pod.start_proxy();
    becomes(&pod, true);
    let pins = pod.pins().expect("its links are pinned");
    assert!(pins.join("sidecar_connect4-0").exists(), "{}", pins.display());
    drop(proxy);
    end(&node, &pod);
    eventually(3 * DEADLINE, "nothing to be left", || {
        (!pins.exists() && pod.written().is_none()).then_some(())
    });
}

fn remove(pod: &Pod<'_>) {
    for cgroup in [pod.cgroup().join("app"), pod.cgroup().join("proxy"), pod.cgroup()] {
        eventually(DEADLINE, "the cgroup to be gone", || std::fs::remove_dir(&cgroup).ok());
    }
}

fn deleted(mode: Mode) {
    nothing_is_left(mode, |_, pod| {
        pod.delete();
        remove(pod);
    });
}
in_modes!(deleted: Ebpf);

fn deleted_without_the_api(mode: Mode) {
    nothing_is_left(mode, |node, pod| {
        node.api_is_down(true);
        remove(pod);
    });
}
in_modes!(deleted_without_the_api: Ebpf);

fn deleted_without_an_agent(mode: Mode) {
    nothing_is_left(mode, |node, pod| {
        node.end_agent(Signal::SIGKILL);
        remove(pod);
        pod.delete();
        node.start_agent();
    });
}
in_modes!(deleted_without_an_agent: Ebpf);

/// The proxy uses the bypass that it was handed, also where it may not call bpf(2).
fn hands_over_the_bypass(mode: Mode) {
    let node = Node::new();
    node.enrol(true);
    node.start_agent();
    let pod = Pod::create(&node, &Config::new(mode).with("interception.bypass", "full"), json!({}));
    let _server = serve(&pod.net.peer.place(), Kind::Echo, "0.0.0.0:9001");
    for start in [Pod::start_proxy, Pod::start_proxy_without_bpf] {
        let _proxy = start(&pod);
        eventually(2 * DEADLINE, "the Pod to be armed", || (pod.readiness() == 200).then_some(()));
        let load = load(&pod.app(), PEER4, 9001);
        eventually(2 * DEADLINE, "bytes past the TCP stack", || {
            let sent = "sidecar_tcp_sent_bytes_total{direction=\"outbound\",path=\"bypass\"}";
            (pod.metric(sent) > 0).then_some(())
        });
        unharmed(load);
    }
}
in_modes!(hands_over_the_bypass: Ebpf);

/// A proxy without any capability tells what the kernel half counts, also what it had no room for.
fn counts_what_passes_by(mode: Mode) {
    let node = Node::new();
    node.enrol(true);
    node.start_agent();
    let pod = Pod::create(&node, &Config::new(mode).with("limits.maxConnections", 5), json!({}));
    let _echo = serve(&pod.net.peer.place(), Kind::Echo, "0.0.0.0:9001");
    let _server = serve(&pod.net.peer.place(), Kind::Peername, "0.0.0.0:9002");
    let _proxy = pod.start_proxy_without_bpf();
    eventually(2 * DEADLINE, "the Pod to be armed", || (pod.metric("sidecar_bpf_armed") == 1).then_some(()));
    let held = Probe::hold(&pod.app(), &["many", PEER4, "9001", "5"]);
    assert_eq!(pod.metric("sidecar_bpf_captured_outbound_total"), 5);
    assert_eq!(pod.metric("sidecar_bpf_records_full_total"), 0);
    let seen = probe(&pod.app(), &["connect", PEER4, "9002", "--read"]);
    assert!(!captured(&seen), "{seen}");
    assert_eq!(pod.metric("sidecar_bpf_records_full_total"), 1);
    assert_eq!(held.finish()["echoed"], 10);
    // Nobody else is answered.
    let ask = "import socket; socket.socket().getsockopt(0x5343, 0x1000, 192)";
    let refused = Finished::of(pod.app().command("python3").args(["-c", ask]));
    assert!(refused.stderr.contains("OSError"), "{refused:?}");
    node.enrol(false);
    eventually(2 * DEADLINE, "nothing to be asked any more", || {
        (pod.metric("sidecar_bpf_armed") == 0).then_some(())
    });
}
in_modes!(counts_what_passes_by: Ebpf);
