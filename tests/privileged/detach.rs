//! Nothing is left behind, however a run ends.

use std::time::Duration;

use nix::sys::signal::Signal;
use sidecar_tests::{
    Config, Connection, DEADLINE, Footprint, Kind, Mode, PEER4, Pair, Place, Program, Sidecar, binary, cli,
    eventually, in_modes, probe, rules, serve,
};

use crate::captured;

/// Ends an armed instance by `end`, and compares with what was there before.
fn leaves_nothing(mode: Mode, end: impl FnOnce(&mut Sidecar)) {
    let net = Pair::new("detach");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let before = rules(&net.pod);
    let mut sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let dial = ["connect", PEER4, "9000", "--read"];
    assert!(captured(&sidecar.probe(&dial)), "the sidecar works");

    let armed = sidecar.footprint(&net.pod);
    assert!(armed.directory, "{armed:?}");
    match mode {
        Mode::Ebpf => {
            let complete = !armed.links.is_empty() && !armed.programs.is_empty() && !armed.maps.is_empty();
            assert!(complete && !armed.cgroups.is_empty(), "this sees what is armed: {armed:?}");
        }
        Mode::Iptables => assert_ne!(rules(&net.pod), before, "this sees what is armed"),
    }

    end(&mut sidecar);
    // The kernel frees programs after a grace period.
    eventually(DEADLINE, &format!("{} to be gone", sidecar.name()), || {
        (armed.remains(sidecar.name()) == Footprint::default()).then_some(())
    });
    assert_eq!(rules(&net.pod), before);
    assert!(!captured(&probe(&net.pod.place(), &dial)));
}

fn terminated(mode: Mode) {
    leaves_nothing(mode, |sidecar| {
        sidecar.terminate();
    });
}
in_modes!(terminated: Ebpf, Iptables);

fn interrupted(mode: Mode) {
    leaves_nothing(mode, |sidecar| {
        sidecar.program().signal(Signal::SIGINT);
        sidecar.program().wait();
    });
}
in_modes!(interrupted: Ebpf, Iptables);

/// CMD ends by itself.
fn ended(mode: Mode) {
    let net = Pair::new("ended");
    let mut sidecar = Sidecar::run(&net.pod, &Config::new(mode), &["cat"]);
    sidecar.wait_until_ready();
    let armed = sidecar.footprint(&net.pod);
    sidecar.program().close_stdin();
    assert!(sidecar.program().wait().status.success());
    eventually(DEADLINE, "everything to be gone", || {
        (armed.remains(sidecar.name()) == Footprint::default()).then_some(())
    });
    assert_eq!(rules(&net.pod), Vec::<String>::new());
}
in_modes!(ended: Ebpf, Iptables);

fn killed(mode: Mode) {
    leaves_nothing(mode, |sidecar| {
        sidecar.kill();
        sidecar.end_apps();
        sidecar.detach().success();
    });
}
in_modes!(killed: Ebpf, Iptables);

/// SIGTERM at ever later moments of the start, until CMD has been started before one came.
#[allow(clippy::disallowed_methods, reason = "the moment is what is tested, not waited for")]
fn while_starting(mode: Mode) {
    let net = Pair::new("starting");
    let before = rules(&net.pod);
    let started = (0..).map(Duration::from_millis).step_by(20).any(|moment| {
        let mut sidecar =
            Sidecar::run(&net.pod, &Config::new(mode), &["sh", "-c", "echo started; exec sleep infinity"]);
        std::thread::sleep(moment);
        sidecar.program().signal(Signal::SIGTERM);
        let ended = sidecar.program().wait();
        assert_ne!(ended.status.code(), Some(0), "after {moment:?}: {ended:?}");
        eventually(DEADLINE, &format!("nothing to be left of the one that got {moment:?}"), || {
            (sidecar.footprint(&net.pod) == Footprint::default()).then_some(())
        });
        assert_eq!(rules(&net.pod), before, "after {moment:?}");
        assert!(moment < DEADLINE, "it never starts CMD: {ended:?}");
        ended.stdout.contains("started")
    });
    assert!(started);
}
in_modes!(while_starting: Ebpf, Iptables);

/// `detach` of an instance that is alive asks it to end and waits for that. Whoever lists connections meanwhile gets
/// a list, with or without those of the one that ends.
fn by_name(mode: Mode) {
    let net = Pair::new("by-name");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let script = "trap '' TERM; echo ready; sleep infinity";
    let config = Config::new(mode).with("timeouts.drain", "500ms");
    let mut sidecar = Sidecar::run(&net.pod, &config, &["sh", "-c", script]);
    sidecar.program().wait_for_output("ready");
    let _held = sidecar.hold(&["connect", PEER4, "9000", "--read"]);
    let armed = sidecar.footprint(&net.pod);
    let mut detach = Program::start(net.pod.place().command(binary()).args(["detach", sidecar.name()]));
    let list = || {
        let listed = cli(&Place::default(), &["connections", "-o", "json"]);
        Connection::list(&listed.stdout);
        let own = format!("instance {}: ", sidecar.name());
        let mut remarks = listed.stderr.lines().filter_map(|line| line.strip_prefix(&own));
        assert!(remarks.all(|remark| remark.contains("is gone")), "{listed:?}");
    };
    // Several, so that one is in the midst of it as the instance ends.
    eventually(DEADLINE, "the end of detach", || {
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(list))));
        detach.has_ended().then_some(())
    });
    let said = detach.wait().success();
    assert!(said.contains(sidecar.name()), "{said}");
    assert!(sidecar.program().wait().status.code().is_some_and(|code| code > 128));
    eventually(DEADLINE, "everything to be gone", || {
        (armed.remains(sidecar.name()) == Footprint::default()).then_some(())
    });
    assert_eq!(rules(&net.pod), Vec::<String>::new());
}
in_modes!(by_name: Ebpf, Iptables);
