//! Real programs as server and as client, both under interception and both on the same host, so that the bypass could
//! carry every byte: connections that live for hundreds of messages, and contents that are compared.

mod databases;
mod echoes;
mod nginx;

use std::path::{Path, PathBuf};
use std::process::Command;

use sidecar_tests::{Config, Finished, Mode, Netns, Place, Program, Sidecar};

/// What the clients of `programs/echo.*` do: so many messages and answers, then so many bytes both ways at once.
const MESSAGES: &str = "400";
const BYTES: &str = "20000000";

/// A network namespace in which everything on 127.0.0.1 that programs under the sidecar say to each other is captured.
fn armed(mode: Mode, hint: &str) -> (Sidecar, Netns) {
    armed_at(mode, hint, "full")
}

/// The same at a level of the bypass.
fn armed_at(mode: Mode, hint: &str, level: &str) -> (Sidecar, Netns) {
    let net = Netns::new(hint);
    let config = Config::new(mode).bypass(level).with("interception.outbound.captureLoopback", true);
    (Sidecar::start(&net, &config), net)
}

/// Sees that at least so many connections were captured.
#[track_caller]
fn assert_captured(sidecar: &Sidecar, connections: u64) {
    let captured = sidecar.metric("sidecar_bpf_captured_outbound_total");
    assert!(captured >= connections, "{captured} connections of {connections} were captured");
}

/// Sees that bytes went past the TCP stack, as they do between event-driven programs.
#[track_caller]
fn assert_bypassed(sidecar: &Sidecar) {
    assert!(bypassed(sidecar) > 0, "nothing was bypassed: {:?}", sidecar.connections());
}

/// How many bytes of captured programs went past the TCP stack.
fn bypassed(sidecar: &Sidecar) -> u64 {
    sidecar.metric(r#"sidecar_tcp_sent_bytes_total{direction="outbound",path="bypass"}"#)
}

/// A program of `tests/programs`, run by `interpreter`.
fn script(place: &Place, interpreter: impl AsRef<Path>, name: &str, args: &[&str]) -> Command {
    let mut command = place.command(interpreter.as_ref());
    command.arg(source(name)).args(args);
    command
}

/// The file of a program of `tests/programs`.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

/// Starts a server that says `listening`.
#[track_caller]
fn listening(mut command: Command) -> Program {
    let mut program = Program::start(&mut command);
    program.wait_for_output("listening");
    program
}

/// Runs a client that says `ok` when all it received is right.
#[track_caller]
fn succeeds(mut command: Command) {
    let said = Finished::of(&mut command).success();
    assert!(said.starts_with("ok "), "{said}");
}
