//! Each directory of deploy/examples, applied as its README says; `expect.json` says what is to be seen then.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use sidecar_tests::eventually;

use crate::cluster::{on_node, try_on_node};
use crate::workload::injected;

/// How long a step is tried again that does not say so itself, in seconds.
const WITHIN: u64 = 60;

/// An example that is applied to the namespace `default`, which its manifests name; removed when dropped.
struct Example {
    directory: PathBuf,
    inject: bool,
    applied: Vec<String>,
}

macro_rules! examples {
    ($($name:ident: $directory:literal,)*) => {
        $(#[test] fn $name() { Example::new($directory).run(); })*

        /// None is left out.
        #[test]
        fn all() {
            let mut found: Vec<_> = fs::read_dir(directory()).unwrap().flatten()
                .filter(|entry| entry.path().is_dir())
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, [$($directory),*]);
        }
    };
}

examples! {
    auth: "auth",
    blue_green: "blue-green",
    canary: "canary",
    hot_reload: "hot-reload",
    intercepting: "intercepting",
    logs: "logs",
    probing: "probing",
    rate_limit: "rate-limit-and-circuit-breaker",
    recording: "recording",
    static_content: "static-content",
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples")
}

impl Example {
    fn new(name: &str) -> Self {
        Self { directory: directory().join(name), inject: false, applied: Vec::new() }
    }

    fn run(mut self) {
        let text = fs::read_to_string(self.directory.join("expect.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        self.inject = expected["inject"] == true;
        for file in expected["apply"].as_array().unwrap() {
            self.apply(file.as_str().unwrap());
        }
        for step in expected["steps"].as_array().unwrap() {
            if let Some(file) = step["apply"].as_str() {
                self.apply(file);
            } else {
                see(step);
            }
        }
    }

    fn apply(&mut self, file: &str) {
        let text = fs::read_to_string(self.directory.join(file)).unwrap();
        let text = if self.inject { injected(&text, &[]) } else { text };
        self.applied.push(text.clone());
        on_node(&["kubectl", "apply", "-f", "-"], &text);
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        for text in self.applied.iter().rev() {
            let arguments = ["kubectl", "delete", "--ignore-not-found", "--timeout=90s", "-f", "-"];
            if let Err(error) = try_on_node(&arguments, text) {
                eprintln!("{error}");
            }
        }
    }
}

/// Does a step until what it gives holds what is expected.
#[track_caller]
fn see(step: &Value) {
    let word = |name: &str| step[name].as_str().unwrap_or_else(|| panic!("{name} of {step}"));
    let mut arguments = vec!["kubectl"];
    if step["logsOf"].is_null() {
        arguments.extend(["exec", word("in"), "-c", word("container"), "--"]);
        arguments.extend(step["run"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()));
    } else {
        arguments.extend(["logs", word("logsOf"), "-c", word("container")]);
    }
    let within = Duration::from_secs(step["within"].as_u64().unwrap_or(WITHIN));
    let mut last = String::new();
    let began = Instant::now();
    eventually(2 * within, &format!("{step}"), || {
        // The first line of a complaint is what was asked.
        let said =
            |error: String| error.split_once('\n').map(|(_, said)| said.to_owned()).unwrap_or_default();
        last = try_on_node(&arguments, "").unwrap_or_else(said);
        let is_seen = last.contains(word("contains"));
        assert!(is_seen || began.elapsed() < within, "{step}: {last}");
        is_seen.then_some(())
    });
}
