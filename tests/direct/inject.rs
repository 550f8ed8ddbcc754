//! `sidecar inject`: the command, and what other readers of YAML make of what it writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sidecar_tests::{Finished, Place, Program, binary, require, tool};

/// Runs `sidecar inject ARGS` with this text on standard input.
fn inject(args: &[&str], text: &str) -> Finished {
    let mut command = Place::default().without_capabilities().command(binary());
    let mut program = Program::start(command.arg("inject").args(args));
    program.say(text);
    program.close_stdin();
    program.wait()
}

/// What a reader of YAML 1.1 takes a text for.
fn read(python: &Path, text: &str) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/yaml_reader.py");
    let mut reader = Program::start(Command::new(python).arg("-B").arg(script));
    reader.say(text);
    reader.close_stdin();
    serde_json::from_str(&reader.wait().success()).unwrap()
}

const WORKLOADS: &str = include_str!("inject/workloads.yaml");
const TRAPS: &str = include_str!("inject/traps.yaml");

#[test]
fn documents_go_through_standard_input() {
    let ended = inject(&["--image", "registry.test/sidecar:7"], WORKLOADS);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(
        ended.stderr.contains("DaemonSet node-exporter: is left as it is: with hostNetwork"),
        "{ended:?}"
    );
    let text = ended.success();
    assert_eq!(text.matches("image: registry.test/sidecar:7\n").count(), 2 * 6, "{text}");
    let (head, _) = WORKLOADS.split_once("---\napiVersion: apps/v1\nkind: Deployment").unwrap();
    assert!(text.starts_with(head), "the ConfigMap stays byte for byte: {text}");
    assert_eq!(inject(&["-f", "-", "--image", "registry.test/sidecar:7"], &text).success(), text);
}

#[test]
fn a_file_is_named_in_what_is_wrong_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("web.yaml");
    let named = file.to_str().unwrap();
    let told = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let ended = inject(&["--file", named], "");
        assert_eq!(ended.stdout, "", "all documents or none");
        (ended.status.code(), ended.stderr)
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, securityContext: {runAsUser: 1337}}]}\n";
    let (status, why) = told(&format!("kind: Service\n---\n{pod}"));
    assert_eq!(status, Some(1));
    assert!(
        why.starts_with(&format!("{named}:3: document 2, Pod a: container a runs as user 1337")),
        "{why}"
    );
    let (status, why) = told("a: [\n");
    assert_eq!(status, Some(64));
    assert!(why.starts_with(&format!("{named}:1: document 1: is not valid YAML")), "{why}");
    let (status, why) = told(
        &pod.replace("1337", "1000").replace("{name: a}\n", "{annotations: {sidecar.dev/bypass: warp}}\n"),
    );
    assert_eq!(status, Some(64), "{why}");
    assert!(why.contains("sidecar.dev/bypass: \"warp\": write off or"), "{why}");
    let ended = inject(&["-f", "/no/such/file.yaml"], "");
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("/no/such/file.yaml"), "{ended:?}");
    assert_eq!(inject(&["--cpu", "much"], "").status.code(), Some(2));
}

/// A reader of YAML 1.1 sees in the application's parts what it saw before.
#[test]
fn traps_survive_for_another_reader() {
    let python = tool("kubernetes-validate", "python");
    require!(@ python.clone());
    let python = python.unwrap();
    for text in [TRAPS.to_owned(), TRAPS.replace('\n', "\r\n")] {
        let (before, injected) = (read(&python, &text), inject(&[], &text).success());
        let after = read(&python, &injected);
        assert_eq!((before.len(), &before[1]), (after.len(), &after[1]));
        assert_eq!(before[0]["metadata"], after[0]["metadata"]);
        let spec = |documents: &[Value]| documents[0]["spec"]["template"]["spec"].clone();
        let (spec, injected) = (spec(&before), spec(&after));
        for list in ["containers", "volumes"] {
            let (before, after) = (spec[list].as_array().unwrap(), injected[list].as_array().unwrap());
            assert!(after.len() > before.len(), "something is added to {list}");
            assert_eq!(before[..], after[..before.len()]);
        }
    }
}

/// The texts of a Pod that hold every character which may trip a reader, alone and between letters.
#[test]
fn every_odd_character_survives_for_another_reader() {
    let python = tool("kubernetes-validate", "python");
    require!(@ python.clone());
    let python = python.unwrap();
    let odd = (0..0x100).chain([0x2028, 0x2029, 0xfeff, 0xfffd, 0x1_f600]).filter_map(char::from_u32);
    let ends = ["", "x", " ", "\n", ":", "#", " #", ": ", "-"];
    let mut texts: Vec<String> = Vec::new();
    for c in odd {
        texts.extend(ends.iter().flat_map(|a| ends.map(|b| format!("{a}{c}{b}"))));
    }
    let words =
        ["y", "Yes", "ON", "null", "~", "0x1f", "1_0", "1e3", ".inf", "1:30", "=", "<<", "---", "0o7"];
    texts.extend(words.map(str::to_owned));
    let container = json!({"name": "app", "args": texts});
    // A flow map is YAML, where it is no JSON.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]}});
    let text = format!("# not JSON\n{{more: 1, {}\n", &escaped(&pod.to_string())[1..]);
    let injected = inject(&[], &text).success();
    assert!(injected.starts_with("# not JSON\nmore: 1\n"), "{}", &injected[..100]);
    assert_eq!(read(&python, &injected)[0]["spec"]["containers"][0]["args"], json!(texts));
}

/// JSON with nothing but ASCII in it.
fn escaped(json: &str) -> String {
    let escape = |c: char| if (' '..='~').contains(&c) { c.to_string() } else { escape_utf16(c) };
    json.chars().map(escape).collect()
}

fn escape_utf16(c: char) -> String {
    // YAML has no pairs of surrogates.
    if u32::from(c) > 0xffff {
        format!("\\U{:08x}", u32::from(c))
    } else {
        format!("\\u{:04x}", u32::from(c))
    }
}

/// What is written is what the API server's schema says, of the oldest and the newest version.
#[test]
fn injected_objects_fit_the_schemas() {
    let validator = tool("kubernetes-validate", "kubernetes-validate");
    require!(@ validator.clone());
    let validator = validator.unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (native, versions) in [(false, ["1.25", "1.37"]), (true, ["1.29", "1.37"])] {
        for mode in ["init", "agent"] {
            let args =
                ["--mode", mode, "--native", "--cpu-limit", "1", "--image-pull-policy", "IfNotPresent"];
            let args: Vec<&str> = args.into_iter().filter(|word| native || *word != "--native").collect();
            let file = directory.path().join(format!("{mode}-{native}.yaml"));
            std::fs::write(&file, inject(&args, WORKLOADS).success()).unwrap();
            for version in versions {
                validate(&validator, version, &file).success();
            }
        }
    }
    let bad = directory.path().join("bad.yaml");
    let text = inject(&[], WORKLOADS).success().replace("readinessProbe:", "readynessProbe:");
    std::fs::write(&bad, text).unwrap();
    assert!(!validate(&validator, "1.37", &bad).status.success(), "the validator looks at what was added");
}

fn validate(validator: &PathBuf, version: &str, file: &Path) -> Finished {
    let mut command = Command::new(validator);
    Finished::of(command.args(["--strict", "-k", version]).arg(file))
}
