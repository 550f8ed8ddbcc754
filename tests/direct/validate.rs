use std::path::PathBuf;

use sidecar_tests::{Config, Mode};
use tempfile::TempDir;

use crate::sidecar;

const HEAD: &str = "apiVersion: sidecar.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {name: default}\nspec:\n";

/// What is wrong, the text below `spec:`, the line of it, and a word that the message must have.
const WRONG: &[(&str, &str, usize, &str)] = &[
    ("an unknown field", "  interception:\n    mode: ebpf\n    modus: ebpf\n", 3, "modus"),
    ("an unknown mode", "  interception:\n    mode: magic\n", 2, "magic"),
    (
        "a number where a list belongs",
        "  interception:\n    outbound:\n      excludePorts: 80\n",
        3,
        "excludePorts",
    ),
    ("a port too large", "  ports:\n    outbound: 70000\n", 2, "70000"),
    (
        "a prefix too long",
        "  interception:\n    outbound:\n      includeCIDRs:\n      - 192.0.2.0/24\n      - 10.0.0.0/33\n",
        5,
        "10.0.0.0/33",
    ),
    (
        "a prefix too long for IPv6",
        "  interception:\n    outbound:\n      excludeCIDRs: [\"::/129\"]\n",
        3,
        "::/129",
    ),
    ("a duration without a unit", "  timeouts:\n    connect: 5\n", 2, "connect"),
    ("no YAML", "  interception: [\n", 1, ""),
];

fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, text).unwrap();
    (directory, file)
}

#[test]
fn good_files_pass() {
    for mode in [Mode::Ebpf, Mode::Iptables] {
        let (_directory, file) = file(&Config::new(mode).with("timeouts.connect", "1s").text());
        let ended = sidecar(&["validate", file.to_str().unwrap()]);
        assert!(ended.status.success(), "{ended:?}");
    }
    let (_directory, file) = file(&format!("{HEAD}  interception:\n    mode: none\n"));
    assert!(sidecar(&["validate", file.to_str().unwrap()]).status.success());
}

/// `validate` and every command that reads the file say the same line, each with its own status.
#[test]
fn mistakes_are_told_with_file_and_line() {
    for (what, text, line, word) in WRONG {
        let (_directory, file) = file(&format!("{HEAD}{text}"));
        let file = file.to_str().unwrap();
        // A parser may find an unclosed bracket at its line or at the end of the file.
        let lines = [HEAD.lines().count() + line, HEAD.lines().count() + text.lines().count() + 1];
        let places = lines.map(|line| format!("{file}:{line}:"));
        let check = |args: &[&str], status: i32| {
            let ended = sidecar(args);
            let said = &ended.stderr;
            assert_eq!(ended.status.code(), Some(status), "{what}: {ended:?}");
            let place = if word.is_empty() { &places[..] } else { &places[..1] };
            assert!(place.iter().any(|place| said.contains(place)), "{what}: no {place:?} in {said:?}");
            assert!(said.contains(word), "{what}: no {word:?} in {said:?}");
        };
        check(&["validate", file], 1);
        check(&["run", "--config", file, "--", "true"], 64);
        check(&["proxy", "--config", file], 64);
    }
}

#[test]
fn a_missing_file_is_named() {
    let ended = sidecar(&["validate", "/no/such/config.yaml"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/no/such/config.yaml"), "{ended:?}");
    let ended = sidecar(&["run", "--config", "/no/such/config.yaml", "--", "true"]);
    assert_eq!(ended.status.code(), Some(64), "{ended:?}");
}

/// One bad file among good ones is named, and only that.
#[test]
fn several_files_are_told_apart() {
    let (_good, good) = file(&Config::new(Mode::Ebpf).text());
    let (_bad, bad) = file(&format!("{HEAD}  nonsense: 1\n"));
    let ended = sidecar(&["validate", good.to_str().unwrap(), bad.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&format!("{}:5:", bad.display())), "{ended:?}");
    assert!(!ended.stderr.contains(&format!("{}:", good.display())), "{ended:?}");
}
