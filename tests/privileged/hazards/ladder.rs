//! The ladder: who is enrolled when, and by whose word not.

use serde_json::{Value, json};
use sidecar_tests::{Cgroup, Finished, Netns, Probe, Sidecar, require};

use super::{Hop, PORT, Run, by_path, config, program};

/// A network namespace where the self-test fails: its firewall refuses connections over loopback.
fn refusing() -> Netns {
    let netns = Netns::new("refusing");
    let rule = ["-A", "INPUT", "-i", "lo", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"];
    Finished::of(netns.place().command("iptables").args(rule)).success();
    netns
}

/// What was asked for by name and cannot be had is no silent nothing.
#[test]
fn full_refuses_to_start_where_the_self_test_fails() {
    require!(root);
    require!(program "iptables");
    let netns = refusing();
    let mut sidecar = Sidecar::run(&netns, &config("full"), &["echo", "started"]);
    let ended = sidecar.program().wait();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("fails the self-test") && ended.stderr.contains("ordering"), "{ended:?}");
    assert!(!ended.stdout.contains("started"), "{ended:?}");
}

/// `auto` goes without, and says why.
#[test]
fn auto_starts_without_where_the_self_test_fails() {
    require!(root);
    require!(program "iptables");
    let netns = refusing();
    let sidecar = Sidecar::start(&netns, &config("auto"));
    let all = ["-F", "INPUT"];
    Finished::of(netns.place().command("iptables").args(all)).success();
    let _program = program(&sidecar, &["rounds"]);
    Hop::of(&sidecar).kept_out("off", "fails the self-test");
}

/// With `auto` a program without an event loop is left alone; `full` takes it.
#[test]
fn auto_asks_for_an_event_loop() {
    require!(root);
    let talk = ["rounds", "--way", "poll"];
    Run::at("auto", &talk).hop().kept_out("observed", "epoll");
    Run::at("full", &talk).hop().goes_by("full");
}

/// A rule is for those that it names by port, program or cgroup, and the level for all others.
#[test]
fn rules_are_for_those_that_they_name() {
    require!(root);
    let (netns, cgroup) = (Netns::new("rules"), Cgroup::new("rules"));
    let run = |level: &str, rules: Value| {
        let options = ["--cgroup", cgroup.path().to_str().unwrap()];
        let config = config(level).with("interception.bypassRules", rules);
        let mut sidecar = Sidecar::run_with(&netns, &config, &options, &[]);
        sidecar.wait_until_ready();
        let place = netns.place().in_cgroup(cgroup.path());
        let program = Probe::hold_both_ends(&place, &["rounds", PORT]);
        let hop = Hop::of(&sidecar);
        drop((program, sidecar));
        hop
    };
    let plain = run("full", json!([]));
    plain.goes_by("full");
    let own: u16 = PORT.parse().unwrap();
    for (list, it, another) in [
        ("ports", json!(own), json!(own + 1)),
        ("programs", plain.0.field("comm").clone(), json!("another")),
        ("cgroups", plain.0.field("cgroup").clone(), json!("/another")),
    ] {
        let rule = |named: &Value, bypass| json!([{list: [named], "bypass": bypass}]);
        run("full", rule(&it, "off")).kept_out("off", "by configuration");
        run("full", rule(&another, "off")).goes_by("full");
        run("off", rule(&it, "full")).goes_by("full");
        run("off", rule(&another, "full")).kept_out("off", "by configuration");
    }
}

/// The first rule that names it holds.
#[test]
fn the_first_rule_holds() {
    require!(root);
    let rules = json!([{"ports": [9000], "bypass": "to-proxy"}, {"ports": [9000], "bypass": "off"}]);
    let config = config("full").with("interception.bypassRules", rules);
    Run::with(&config, &["rounds"]).hop().goes_by("to-proxy");
}

/// A program that blocks, or splices, after eight connections that did not is looked at all the same: what it has earned
/// is to be enrolled sooner, not blindly.
#[test]
fn other_ways_after_eight_of_one() {
    require!(root);
    for (way, reason) in [("blocking", "blocking mode"), ("splice", "splices")] {
        let talk = ["history", "--count", "10", "--times", "500", "--then"];
        let run = Run::at("full", &[&talk[..], &[way]].concat());
        assert!(by_path(&run.sidecar, "sent", "bypass") > 0, "the others were enrolled");
        run.hop().kept_out("lost", reason);
        drop(run);
        // A server on loopback, whose hop no list shows: it would hang.
        Run::at("full", &[&talk[..], &["epoll", "--far", way]].concat());
    }
}

/// A program that has read nothing yet has not shown how it reads: a server may set its mode some time after accept().
#[test]
fn a_mode_counts_from_the_first_read() {
    require!(root);
    Run::at("full", &["tardy"]).hop().goes_by("full");
}
