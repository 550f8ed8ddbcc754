//! Ends of connections, of programs and of the proxy: hazards 7 to 9.

use sidecar_tests::{Cgroup, DEADLINE, Netns, Probe, Sidecar, eventually, require};

use super::{Hop, PORT, Run, by_path, config, number};

/// An instance that works in a cgroup of somebody else's, so that programs outlive it.
struct Lent {
    program: Probe,
    sidecar: Sidecar,
    _cgroup: Cgroup,
    netns: Netns,
}

#[track_caller]
fn lent(args: &[&str]) -> Lent {
    let netns = Netns::new("lent");
    let cgroup = Cgroup::new("lent");
    let options = ["--cgroup", cgroup.path().to_str().unwrap()];
    let config = config("full").with("timeouts.drain", "300ms");
    let mut sidecar = Sidecar::run_with(&netns, &config, &options, &[]);
    sidecar.wait_until_ready();
    let program = Probe::hold_both_ends(&netns.place().in_cgroup(cgroup.path()), args);
    Lent { program, sidecar, _cgroup: cgroup, netns }
}

/// Removing a socket from its map drops what it has not read (sock_map_unref, sk_psock_drop): the map must outlive the
/// proxy, however it ends.
#[track_caller]
fn unread_after(end: impl FnOnce(&mut Sidecar)) {
    let mut lent = lent(&["unread", PORT, "--size", "50000"]);
    let hop = Hop::of(&lent.sidecar);
    let (_, received) = hop.redirected();
    // All that is unread, and some of what was there before.
    assert!(received > 50_000, "what is unread was redirected: {:?}", hop.0);
    let armed = lent.sidecar.footprint(&lent.netns);
    end(&mut lent.sidecar);
    eventually(DEADLINE, "everything to be detached", || {
        armed.remains(lent.sidecar.name()).links.is_empty().then_some(())
    });
    let seen = lent.program.finish();
    assert!(["EOF", "ECONNRESET"].contains(&seen["end"].as_str().unwrap()), "{seen}");
}

#[test]
fn hazard_07_unread_data_at_the_end_of_a_run_by_sigterm() {
    require!(root);
    unread_after(|sidecar| drop(sidecar.terminate()));
}

#[test]
fn hazard_07_unread_data_at_the_end_of_a_run_by_detach() {
    require!(root);
    unread_after(|sidecar| {
        sidecar.detach().success();
        sidecar.program().wait();
    });
}

#[test]
fn hazard_07_unread_data_at_the_end_of_a_run_by_kill() {
    require!(root);
    unread_after(|sidecar| {
        sidecar.kill();
        sidecar.detach().success();
    });
}

/// What was sent before a close comes, in every order of closes, and who writes to a closed reader is told: otherwise
/// send() succeeds, and bytes are gone with the reader's queue.
fn hazard_08_close_races(level: &str) {
    let run = Run::at(level, &["closes", "--times", "240"]);
    let told = run.program.seen()["told"].as_object().unwrap();
    assert!(told.keys().all(|error| error == "EPIPE" || error == "ECONNRESET"), "{told:?}");
    assert_eq!(
        told.values().filter_map(serde_json::Value::as_u64).sum::<u64>(),
        60,
        "each writer is told once"
    );
    let [redirected, by_tcp] = ["bypass", "tcp"].map(|path| by_path(&run.sidecar, "sent", path));
    assert!(if level == "off" { redirected == 0 } else { redirected > by_tcp / 4 }, "{redirected} {by_tcp}");
}
in_levels!(hazard_08_close_races: full, auto, to_proxy, off);

/// A writer that is held is told when its reader closes: TCP resets a connection whose reader leaves bytes unread, but
/// those in the queue of redirected bytes are none to it, and the writer would wait for room for a minute.
fn hazard_08_abandoned(level: &str) {
    let run = Run::at(level, &["abandon"]);
    let told = run.program.seen()["told"].as_object().unwrap();
    assert!(told.keys().all(|error| error == "EPIPE" || error == "ECONNRESET"), "{told:?}");
    assert_eq!(told.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), 4, "{told:?}");
    assert!(level == "off" || by_path(&run.sidecar, "sent", "bypass") > 0);
}
in_levels!(hazard_08_abandoned: full, auto, to_proxy, off);

/// The other end is gone from the map: a verdict that returned the failed lookup would answer the sender EACCES, not what
/// TCP does.
#[test]
fn hazard_09_lookup_miss() {
    require!(root);
    for _ in 0..3 {
        let mut lent = lent(&["orphans", PORT, "--count", "24"]);
        let all = lent.sidecar.connections();
        assert!(all.iter().all(|one| one.number("bypassBytesSent") > 0), "{all:?}");
        lent.sidecar.kill();
        let seen = lent.program.finish();
        let told = seen["told"].as_object().unwrap();
        assert!(told.keys().all(|error| error == "EPIPE" || error == "ECONNRESET"), "{seen}");
        assert_eq!(told.keys().map(|error| number(&seen["told"], error)).sum::<u64>(), 24, "{seen}");
    }
}
