//! What cannot be armed: one clear line, the documented status, and nothing left.

use std::net::TcpListener;
use std::path::Path;

use sidecar_tests::{
    Cgroup, Config, Finished, Footprint, Mode, Netns, Place, Program, Sidecar, binary, cli, in_modes, rules,
};

/// Starts a run that must not succeed, and checks that it left nothing.
fn refused(netns: &Netns, config: &Config, options: &[&str], status: i32, words: &[&str]) {
    let mut sidecar = Sidecar::run_with(netns, config, options, &["true"]);
    let ended = sidecar.program().wait();
    let line = said(&ended);
    assert_eq!(ended.status.code(), Some(status), "{ended:?}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
    assert_eq!(sidecar.footprint(netns), Footprint::default());
    assert_eq!(rules(netns), Vec::<String>::new());
}

/// The one line on stderr.
fn said(ended: &Finished) -> &str {
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [line] = lines[..] else { panic!("expected one line, got {lines:#?}") };
    line
}

#[test]
fn missing_cgroup() {
    sidecar_tests::require!(root);
    let netns = Netns::new("cgroup");
    let path = "/sys/fs/cgroup/no-such-cgroup";
    assert!(!Path::new(path).exists());
    refused(&netns, &Config::new(Mode::Ebpf), &["--cgroup", path], 1, &[path]);
}

/// A cgroup of the name is there already: it and whoever runs in it are somebody else's.
#[test]
fn cgroup_taken() {
    sidecar_tests::require!(root);
    let netns = Netns::new("taken");
    let name = netns.name();
    let around = Cgroup::new("taken");
    let taken = around.path().join(format!("sidecar-{name}"));
    // Where the instance would put its own CMD.
    let app = taken.join("app");
    std::fs::create_dir_all(&app).unwrap();
    let inside = Place::default().in_cgroup(&app);
    let mut lives = Program::start(inside.command("sh").args(["-c", "echo in; read line; echo still here"]));
    lives.wait_for_output("in");

    let ended =
        cli(&netns.place().in_cgroup(around.path()), &["run", "--name", name, "--", "echo", "CMD ran"]);
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    let line = said(&ended);
    assert!(line.contains(taken.to_str().unwrap()), "{line}");
    assert!(!Path::new("/run/sidecar").join(name).exists());
    lives.say("\n");
    assert!(lives.wait().success().contains("still here"));
}

/// One inside the other would hand each connection to each other.
fn nested(mode: Mode) {
    let netns = Netns::new("nested");
    let sidecar = binary();
    let cmd = [sidecar.to_str().unwrap(), "run", "--", "echo", "CMD ran"];
    let mut outer = Sidecar::run(&netns, &Config::new(mode), &cmd);
    let ended = outer.program().wait();
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(said(&ended).contains(outer.name()), "{ended:?}");
}
in_modes!(nested: Ebpf, Iptables);

fn port_taken(mode: Mode) {
    let netns = Netns::new("port");
    let _taken = netns.enter(|| TcpListener::bind("127.0.0.1:15001").unwrap());
    let config = Config::new(mode).with("ports.outbound", 15001);
    refused(&netns, &config, &[], 1, &["15001"]);
}
in_modes!(port_taken: Ebpf, Iptables);

fn bad_network(mode: Mode) {
    let netns = Netns::new("cidr");
    let config = Config::new(mode).with("interception.outbound.includeCIDRs", ["10.0.0.0/33"]);
    let text = config.text();
    let line = text.lines().position(|line| line.contains("10.0.0.0/33")).unwrap() + 1;
    refused(&netns, &config, &[], 64, &[&format!("config.yaml:{line}: "), "includeCIDRs", "10.0.0.0/33"]);
}
in_modes!(bad_network: Ebpf, Iptables);
