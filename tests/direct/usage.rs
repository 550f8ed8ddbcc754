use nix::unistd::geteuid;
use sidecar_tests::{Finished, Place, binary_for_everyone};

use crate::sidecar;

#[test]
fn unknown_words_are_usage_errors() {
    for args in
        [&["no-such-command"][..], &["run", "--no-such-option", "--", "true"], &["connections", "-o", "xml"]]
    {
        let ended = sidecar(args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {ended:?}");
        let named = args.iter().find(|word| word.contains("no-such") || **word == "xml").unwrap();
        assert!(ended.stderr.contains(named), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn version_is_a_result() {
    let ended = sidecar(&["version"]);
    assert!(ended.stdout.contains(env!("CARGO_PKG_VERSION")), "{ended:?}");
    assert!(ended.status.success());
}

#[test]
fn every_command_has_help() {
    let help = sidecar(&["--help"]).success();
    for command in [
        "run",
        "proxy",
        "init",
        "agent",
        "detach",
        "connections",
        "check",
        "inject",
        "webhook",
        "logs",
        "validate",
        "version",
    ] {
        assert!(help.contains(command), "{command} is not in {help}");
        assert!(sidecar(&[command, "--help"]).success().contains(command));
    }
}

/// Without capabilities `run` cannot arm: it says which one is missing, and does not run the command.
#[test]
fn missing_capability_is_named() {
    let (_directory, binary) = binary_for_everyone();
    let place = if geteuid().is_root() { Place::default().as_user("nobody") } else { Place::default() };
    let mut command = place.command(binary);
    let ended = Finished::of(command.args(["run", "--", "echo", "ran"]).current_dir("/"));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "", "the command must not run");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("CAP_"), "{ended:?}");
}

#[test]
fn check_says_what_is_missing() {
    let (_directory, binary) = binary_for_everyone();
    let place = if geteuid().is_root() { Place::default().as_user("nobody") } else { Place::default() };
    let mut command = place.command(binary);
    let ended = Finished::of(command.args(["check", "-o", "json"]).current_dir("/"));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    serde_json::from_str::<serde_json::Value>(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {ended:?}"));
}
