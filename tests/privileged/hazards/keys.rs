//! Whose bytes are whose: hazard 10.

use sidecar_tests::{Netns, Probe, Sidecar, require};

use super::{Hop, PORT, by_path, config, number, program, redirected_in_all};

/// Below `ip_local_port_range`: no listener and no connection of the proxy's is given it by chance.
const SOURCE: &str = "20000";

/// Sockets are known by cookie, and their peers by network namespace and 4-tuple: by the 4-tuple alone, bytes would cross
/// between namespaces that use the same addresses and ports at once.
#[test]
fn hazard_10_keys() {
    require!(root);
    let worlds = ["one", "two"].map(|hint| {
        let netns = Netns::new(hint);
        let sidecar = Sidecar::start(&netns, &config("full"));
        (sidecar, netns)
    });
    // The program's source port is fixed, and each has bytes of its own.
    let talk = |seed| ["reuse", "--source", SOURCE, "--times", "1", "--seed", seed];
    let programs = [(0, "10"), (1, "20")].map(|(world, seed)| program(&worlds[world].0, &talk(seed)));
    for (sidecar, _) in &worlds {
        let hop = Hop::of(sidecar);
        hop.goes_by("full");
        assert_eq!(hop.0.text("source"), format!("127.0.0.1:{SOURCE}"));
    }
    drop(programs);
}

/// The same 4-tuple by one socket after the other: bytes for the last would reach what is left of the first, or be taken
/// for its.
#[test]
fn hazard_10_keys_used_again() {
    require!(root);
    let netns = Netns::new("again");
    let sidecar = Sidecar::start(&netns, &config("full"));
    let last = program(&sidecar, &["reuse", "--source", SOURCE, "--times", "60"]);
    let hop = Hop::of(&sidecar);
    hop.goes_by("full");
    assert_eq!(hop.0.text("source"), format!("127.0.0.1:{SOURCE}"));
    // More than the last one alone.
    let redirected = by_path(&sidecar, "sent", "bypass");
    assert!(redirected > 30 * hop.redirected().0 / 2, "{redirected} of {}", number(last.seen(), "sent"));
}

/// A server that is not armed has no cookie until somebody asks for it: its hop is nobody's, and two such are not one.
#[test]
fn hazard_10_no_cookie() {
    require!(root);
    let netns = Netns::new("no-cookie");
    let sidecar = Sidecar::start(&netns, &config("full"));
    let _server = Probe::hold_both_ends(&netns.place(), &["echo", PORT]);
    let _client = program(&sidecar, &["talk"]);
    let hop = Hop::of(&sidecar);
    hop.goes_by("full");
    let (to_proxy, to_program) = hop.redirected();
    assert_eq!(redirected_in_all(&sidecar), to_proxy + to_program);
}
