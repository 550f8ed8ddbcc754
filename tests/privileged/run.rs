//! `sidecar run` as a wrapper: CMD's output, input, status and signals are as without it.

use nix::sys::signal::Signal;
use serde_json::Value;
use sidecar_tests::{
    Cgroup, Config, DEADLINE, Finished, Footprint, Kind, Mode, PEER4, POD4, Pair, Probe, Sidecar, eventually,
    in_modes, probe, require, rules, serve,
};

use crate::{at, captured};

fn shell(mode: Mode, script: &str) -> Finished {
    let net = Pair::new("status");
    let mut sidecar = Sidecar::run(&net.pod, &Config::new(mode), &["sh", "-c", script]);
    sidecar.program().close_stdin();
    sidecar.program().wait()
}

fn status(mode: Mode) {
    assert_eq!(shell(mode, "exit 0").status.code(), Some(0));
    assert_eq!(shell(mode, "exit 7").status.code(), Some(7));
    assert_eq!(shell(mode, "kill -TERM $$").status.code(), Some(128 + 15));
    assert_eq!(shell(mode, "kill -KILL $$").status.code(), Some(128 + 9));
}
in_modes!(status: Ebpf, Iptables);

fn output(mode: Mode) {
    assert_eq!(shell(mode, "printf 'out\\n\\0tail'; echo err >&2").stdout, "out\n\0tail");
}
in_modes!(output: Ebpf, Iptables);

fn input(mode: Mode) {
    let net = Pair::new("input");
    let mut sidecar = Sidecar::run(&net.pod, &Config::new(mode), &["cat"]);
    sidecar.program().say("through\n");
    sidecar.program().wait_for_output("through\n");
    sidecar.program().close_stdin();
    assert!(sidecar.program().wait().status.success());
}
in_modes!(input: Ebpf);

/// CMD decides what a signal means.
fn signals(mode: Mode) {
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGUSR1, "USR1")] {
        let net = Pair::new("signals");
        let script = format!("trap 'echo caught; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        let mut sidecar = Sidecar::run(&net.pod, &Config::new(mode), &["sh", "-c", &script]);
        sidecar.program().wait_for_output("ready");
        sidecar.program().signal(signal);
        let ended = sidecar.program().wait();
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(5), "ready\ncaught\n"), "{name}");
    }
}
in_modes!(signals: Ebpf, Iptables);

/// What whoever started us had ignored stays ignored, by us and by CMD (nohup(1)).
fn hangup_is_ignored(mode: Mode) {
    let net = Pair::new("nohup");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let script = "echo ready; read line; echo still here";
    let mut sidecar = Sidecar::run_by_nohup(&net.pod, &Config::new(mode), &["sh", "-c", script]);
    sidecar.program().wait_for_output("ready");
    sidecar.program().signal(Signal::SIGHUP);
    assert!(captured(&sidecar.probe(&["connect", PEER4, "9000", "--read"])));
    sidecar.program().say("go\n");
    assert!(sidecar.program().wait().success().contains("still here"));
}
in_modes!(hangup_is_ignored: Ebpf, Iptables);

fn no_such_command(mode: Mode) {
    let net = Pair::new("nothing");
    let mut sidecar = Sidecar::run(&net.pod, &Config::new(mode), &["/no/such/program"]);
    let ended = sidecar.program().wait();
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("/no/such/program"), "{ended:?}");
    assert_eq!(rules(&net.pod), Vec::<String>::new());
}
in_modes!(no_such_command: Ebpf, Iptables);

/// CMD is armed before its first instruction.
fn from_the_start(mode: Mode) {
    let net = Pair::new("start");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/probe.py");
    let cmd = ["python3", "-B", script, "connect", PEER4, "9000", "--read"];
    let mut sidecar = Sidecar::run(&net.pod, &Config::new(mode), &cmd);
    let printed = sidecar.program().wait().success();
    let seen: Value = serde_json::from_str(&printed).unwrap();
    assert!(captured(&seen), "{seen}");
}
in_modes!(from_the_start: Ebpf, Iptables);

/// `ip netns exec` replaces /sys: no cgroup mount is in sight.
#[test]
fn under_ip_netns_exec() {
    require!(root);
    let net = Pair::new("exec");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/probe.py");
    let cmd = ["python3", "-B", script, "connect", PEER4, "9000", "--read"];
    let mut sidecar = Sidecar::run_by_ip_netns_exec(&net.pod, &Config::new(Mode::Ebpf), &cmd);
    let printed = sidecar.program().wait().success();
    let seen: Value = serde_json::from_str(&printed).unwrap();
    assert!(captured(&seen), "{seen}");
    assert_eq!(sidecar.footprint(&net.pod), Footprint::default(), "also the private mounts are gone");
}

/// Without CMD: somebody else's cgroup, until SIGTERM, and it is theirs after that.
#[test]
fn a_given_cgroup() {
    require!(root);
    let net = Pair::new("cgroup");
    let cgroup = Cgroup::new("given");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let config = Config::new(Mode::Ebpf);
    let options = ["--cgroup", cgroup.path().to_str().unwrap()];
    let mut sidecar = Sidecar::run_with(&net.pod, &config, &options, &[]);
    sidecar.wait_until_ready();
    let place = net.pod.place().in_cgroup(cgroup.path());
    let dial = ["connect", PEER4, "9000", "--read"];
    assert!(captured(&probe(&place, &dial)));
    assert!(!captured(&probe(&net.pod.place(), &dial)));
    assert_eq!(sidecar.terminate().status.code(), Some(0));
    assert!(cgroup.path().exists());
    assert!(!captured(&probe(&place, &dial)));
}

/// A listener that was there before its cgroup was armed is steered as long as it is open, and its port is anybody's
/// after that.
#[test]
fn a_listener_that_was_there_before() {
    require!(root);
    let net = Pair::new("seeded");
    let cgroup = Cgroup::new("seeded");
    let dial = ["connect", POD4, "9001", "--read"];
    let early = serve(&net.pod.place().in_cgroup(cgroup.path()), Kind::Peername, "0.0.0.0:9001");
    let options = ["--cgroup", cgroup.path().to_str().unwrap()];
    let mut sidecar = Sidecar::run_with(&net.pod, &Config::new(Mode::Ebpf), &options, &[]);
    sidecar.wait_until_ready();
    let steered = || sidecar.metric("sidecar_bpf_captured_inbound_total");
    let held = Probe::hold(&net.peer.place(), &dial);
    assert_eq!(held.seen()["reply"]["accept"], held.seen()["sockname"]);
    sidecar.connection("inbound", &at(POD4, 9001));
    assert_eq!(steered(), 1);

    drop(held);
    drop(early);
    let _neighbour = serve(&net.pod.place(), Kind::Peername, "0.0.0.0:9001");
    eventually(DEADLINE, "the neighbour to be reached directly", || {
        let before = steered();
        let seen = probe(&net.peer.place(), &dial);
        (steered() == before && seen["reply"]["accept"] == seen["sockname"]).then_some(())
    });
}
