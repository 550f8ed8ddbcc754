//! Under `sidecar init`: a proxy without any capability asks by what was pinned for it, or by packets.

use sidecar_tests::{Connection, DEADLINE, Footprint, Init, Netns, Probe, eventually, probe, require};

use super::{Hop, PORT, config};

#[track_caller]
fn pod(level: &str) -> (Netns, Init) {
    let netns = Netns::new("unprivileged");
    let init = Init::arm(&netns, &config(level), &[]);
    // Dropped from the last: what is armed is undone from within the namespace.
    (netns, init)
}

/// A program's hop, once the proxy serves and the program has said what it saw.
#[track_caller]
fn hop(init: &Init, args: &[&str]) -> (Probe, Hop) {
    let [command, options @ ..] = args else { panic!("a command") };
    // To a port where nobody listens: the proxy accepts and resets, the kernel refuses.
    let is_up = || probe(&init.app(), &["connect", "127.0.0.1", "1"])["error"] != "ECONNREFUSED";
    eventually(DEADLINE, "the proxy to take over", || is_up().then_some(()));
    let program = Probe::hold_both_ends(&init.app(), &[&[*command, PORT], options].concat());
    let is_programs = |one: &Connection| one.is("outbound", &crate::at("127.0.0.1", 9000));
    let connection =
        eventually(DEADLINE, "the program's connection", || init.connections().into_iter().find(is_programs));
    (program, Hop(connection))
}

/// A proxy may do as one under `run`, also the next one after it, and one that may not call bpf(2).
#[test]
fn full() {
    require!(root);
    let (netns, init) = pod("full");
    let armed = Footprint::of(init.name(), 0, &netns);
    for start in [Init::proxy, Init::proxy_without_bpf, Init::proxy_without_bpf] {
        let _proxy = start(&init);
        let (_program, hop) = hop(&init, &["mixed", "--times", "200"]);
        hop.goes_by("full");
    }
    init.detach().success();
    // Of the maps, some are of the pinned programs as well.
    eventually(DEADLINE, "everything to be gone", || {
        (armed.remains(init.name()) == Footprint::default()).then_some(())
    });
}

/// What sees splice(2) stays when `sidecar init` is done.
#[test]
fn who_splices_is_kept_out() {
    require!(root);
    let (_netns, init) = pod("full");
    let _proxy = init.proxy();
    let (_program, hop) = hop(&init, &["blocking", "--way", "splice"]);
    hop.kept_out("lost", "splices");
}

/// `auto` takes no program whose executable it cannot read, and another user's cannot be.
#[test]
fn auto_cannot_look_at_programs() {
    require!(root);
    let (_netns, init) = pod("auto");
    let _proxy = init.proxy();
    let (_program, hop) = hop(&init, &["rounds"]);
    hop.kept_out("observed", "executable cannot be read");
}
