//! deploy/examples: what is in their ConfigMaps is a configuration, and each says what is to be seen of it.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use sidecar_tests::{configurations, examples};

use crate::sidecar;

const EXAMPLES: [&str; 10] = [
    "auth",
    "blue-green",
    "canary",
    "hot-reload",
    "intercepting",
    "logs",
    "probing",
    "rate-limit-and-circuit-breaker",
    "recording",
    "static-content",
];

/// The files of an example with this ending.
fn files(name: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(examples().join(name)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[test]
fn all_are_known() {
    let entries = fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, EXAMPLES);
    let readme = fs::read_to_string(examples().join("README.md")).unwrap();
    for name in EXAMPLES {
        assert!(readme.contains(&format!("[{name}]({name})")), "{name}");
    }
}

#[test]
fn their_configurations_are_valid() {
    let mut seen = 0;
    for manifest in EXAMPLES.iter().flat_map(|name| files(name, ".yaml")) {
        for text in configurations(&manifest) {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("sidecar.yaml");
            fs::write(&file, text).unwrap();
            let ended = sidecar(&["validate", file.to_str().unwrap()]);
            assert!(ended.status.success() && ended.stderr.is_empty(), "{}: {ended:?}", manifest.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 10, "eight examples have one, and two of them a changed one");
}

/// What they apply is there, and what is to be seen is said of what is applied.
#[test]
fn their_expectations_can_be_read() {
    for name in EXAMPLES {
        let directory = examples().join(name);
        let text = fs::read_to_string(directory.join("expect.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(expected["inject"].is_boolean(), "{name}");
        let applied = expected["apply"].as_array().unwrap().iter();
        let steps = expected["steps"].as_array().unwrap();
        let files = applied.chain(steps.iter().map(|step| &step["apply"]).filter(|file| !file.is_null()));
        let manifests: String =
            files.map(|file| fs::read_to_string(directory.join(file.as_str().unwrap())).unwrap()).collect();
        let injected = manifests.contains("sidecar.dev/inject: \"true\"");
        assert_eq!(expected["inject"], injected, "{name}");
        for step in steps.iter().filter(|step| step["apply"].is_null()) {
            let of = step["in"].as_str().or(step["logsOf"].as_str()).unwrap();
            let deployment = of.strip_prefix("deploy/").unwrap();
            assert!(
                manifests.contains(&format!("kind: Deployment\nmetadata: {{name: {deployment}}}")),
                "{step}"
            );
            let container = step["container"].as_str().unwrap();
            let there = manifests.contains(&format!("- name: {container}\n"));
            assert!(there || injected && container == "sidecar-proxy", "{step}");
            assert!(
                step["contains"].is_string() && (step["in"].is_null() || step["run"].is_array()),
                "{step}"
            );
        }
    }
}

/// Each container runs as an ordinary user that can change nothing.
#[test]
fn their_containers_have_no_privilege() {
    let context = [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
    ];
    for manifest in EXAMPLES.iter().flat_map(|name| files(name, ".yaml")) {
        let text = fs::read_to_string(&manifest).unwrap();
        let containers = text.matches("        image: ").count();
        for words in context {
            assert_eq!(text.matches(words).count(), containers, "{}: {words}", manifest.display());
        }
    }
}
