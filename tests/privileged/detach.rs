//! Nothing is left behind, however a run ends.

use nix::sys::signal::Signal;
use sidecar_tests::{
    Config, DEADLINE, Footprint, Kind, Mode, PEER4, Pair, Sidecar, eventually, in_modes, probe, rules, serve,
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
