//! Which ports are steered follows the listeners of armed programs, however they come and go.

use sidecar_tests::{Config, Mode, POD4, Pair, Sidecar, in_modes, listen, listen_twice, probe};

/// Two listeners on each of many ports at the same moment (`SO_REUSEPORT`): one that closes leaves the other's port
/// steered, and the last leaves none behind.
fn two_at_once(mode: Mode) {
    let net = Pair::new("twice");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let steered = || sidecar.metric("sidecar_bpf_captured_inbound_total");
    let ports = 20_000..20_300;
    let count = u64::try_from(ports.len()).unwrap();
    let connect_to_each = || {
        let args = ["sweep", POD4, &ports.start.to_string(), &count.to_string()];
        let seen = probe(&net.peer.place(), &args);
        assert_eq!(seen["connected"], count, "{seen}");
    };
    for round in 0..3 {
        let two = listen_twice(&sidecar.place(), &ports);
        let before = steered();
        connect_to_each();
        assert_eq!(steered() - before, count, "one of two has closed, round {round}");
        drop(two);
        let _neighbour = listen(&net.pod.place(), &ports);
        let before = steered();
        connect_to_each();
        assert_eq!(steered() - before, 0, "both have closed, round {round}");
    }
}
in_modes!(two_at_once: Ebpf);
