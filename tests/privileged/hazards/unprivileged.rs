//! Under `sidecar init`: a proxy without any capability asks by what was pinned for it, or by packets.

use sidecar_tests::{
    Connection, DEADLINE, Footprint, Init, Mounts, Netns, PEER4, Pair, Probe, eventually, probe, require,
};

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
    until_served(init);
    let program = Probe::hold_both_ends(&init.app(), &[&[*command, PORT], options].concat());
    (program, Hop(connection(init, "outbound", &crate::at("127.0.0.1", 9000))))
}

/// Until the proxy serves.
#[track_caller]
fn until_served(init: &Init) {
    // To a port where nobody listens: the proxy accepts and resets, the kernel refuses.
    let is_up = || probe(&init.app(), &["connect", "127.0.0.1", "1"])["error"] != "ECONNREFUSED";
    eventually(DEADLINE, "the proxy to take over", || is_up().then_some(()));
}

#[track_caller]
fn connection(init: &Init, direction: &str, to: &str) -> Connection {
    let is_programs = |one: &Connection| one.is(direction, to);
    eventually(DEADLINE, "the program's connection", || init.connections().into_iter().find(is_programs))
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

/// Two Pods with a proxy each: one runs the program that it asks by, the other, which may not, sends packets.
#[test]
fn pods_meet() {
    require!(root);
    let (net, node) = (Pair::new("unprivileged"), Mounts::with_bpffs());
    let config = config("full").with("interception.bypassSameNode", true);
    let [client, server] =
        [&net.pod, &net.peer].map(|netns| Init::arm_at(netns.place().in_mounts(&node), &config, &[]));
    let _proxies = [client.proxy_without_bpf(), server.proxy()];
    until_served(&client);
    let echo = ["echo", PORT, "--host", PEER4];
    let _server = Probe::hold_both_ends(&server.app(), &echo);
    let to = crate::at(PEER4, 9000);
    let dial = ["talk", PORT, "--host", PEER4];
    let _client = eventually(DEADLINE, "the server's proxy to take over", || {
        let client = Probe::hold_both_ends(&client.app(), &dial);
        server.connections().iter().any(|one| one.is("inbound", &to)).then_some(client)
    });
    for (init, direction) in [(&client, "outbound"), (&server, "inbound")] {
        let hop = eventually(DEADLINE, "the proxies to meet", || {
            let all = init.connections();
            all.into_iter().find(|one| one.is(direction, &to) && one.field("sameNode")["bypass"] == "earned")
        });
        assert!(hop.field("sameNode")["messages"].as_u64().unwrap() > 0, "{hop:?}");
    }
}
