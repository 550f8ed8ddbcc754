//! The cluster, and namespaces in it that go with their guard.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use sidecar_tests::Program;
use sidecar_tests::eventually;

/// How long the cluster may take for what takes seconds on an idle machine: images are there, but Pods share two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The image under test, which `cargo xtask kubernetes-test` builds and imports.
pub(crate) const IMAGE: &str = "localhost/sidecar:dev";

/// Runs a command on the node. Returns its standard output, or what it complained about.
pub(crate) fn try_on_node(arguments: &[&str], input: &str) -> Result<String, String> {
    let script = env::var_os("SIDECAR_KUBERNETES_SH").map(PathBuf::from);
    let script = script.expect("SIDECAR_KUBERNETES_SH names no cluster: run `cargo xtask kubernetes-test`");
    let mut command = Command::new(script);
    command.args(["exec", "--"]).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that reads no input may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{arguments:?}: {}\n{}{}", output.status, text(&output.stderr), text(&output.stdout)))
}

/// The same for what must not fail.
#[track_caller]
pub(crate) fn on_node(arguments: &[&str], input: &str) -> String {
    try_on_node(arguments, input).unwrap_or_else(|error| panic!("{error}"))
}

/// A command on the node that runs on, until its guard is dropped.
pub(crate) fn command_on_node(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("SIDECAR_KUBERNETES_SH").unwrap());
    command.args(["exec", "--"]).args(arguments);
    command
}

/// Applies manifests that belong to no namespace of a test.
#[track_caller]
pub(crate) fn apply(yaml: &str) {
    on_node(&["kubectl", "apply", "-f", "-"], yaml);
}

/// A namespace of the test's own.
pub(crate) struct Namespace {
    /// Its name.
    pub(crate) name: String,
}

/// A Pod as the API has it.
pub(crate) struct Pod(pub(crate) Value);

// === impl Namespace ===

impl Namespace {
    /// Makes one. `labels`: as `name: value, ...`.
    #[track_caller]
    pub(crate) fn new(hint: &str, labels: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{hint}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
        ));
        let namespace = Self { name };
        // Pods are refused until the namespace has its account.
        namespace.eventually("the default account", |namespace| {
            namespace.try_kubectl(&["get", "serviceaccount", "default"], "").ok()
        });
        namespace
    }

    /// kubectl in this namespace.
    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        try_on_node(&[&["kubectl", "--namespace", &self.name], arguments].concat(), input)
    }

    /// The same for what must not fail.
    #[track_caller]
    pub(crate) fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        self.try_kubectl(arguments, input).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Applies manifests.
    #[track_caller]
    pub(crate) fn apply(&self, yaml: &str) {
        self.kubectl(&["apply", "-f", "-"], yaml);
    }

    /// Runs a command in a container.
    pub(crate) fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<String, String> {
        self.try_kubectl(&[&["exec", pod, "-c", container, "--"], command].concat(), "")
    }

    /// What a container prints until it ends.
    pub(crate) fn follow_logs(&self, pod: &str, container: &str) -> Program {
        let arguments = ["kubectl", "--namespace", &self.name, "logs", "--follow", pod, "-c", container];
        Program::start(&mut command_on_node(&arguments))
    }

    /// The Pods with a label `app`, those that are going excepted.
    pub(crate) fn pods(&self, app: &str) -> Vec<Pod> {
        let text = self.kubectl(&["get", "pods", "-l", &format!("app={app}"), "-o", "json"], "");
        let list: Value = serde_json::from_str(&text).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).cloned().map(Pod).collect()
    }

    /// The only such Pod, when all its containers are ready.
    #[track_caller]
    pub(crate) fn ready(&self, app: &str) -> Pod {
        self.ready_pods(app, 1).remove(0)
    }

    /// So many such Pods, when all are ready.
    #[track_caller]
    pub(crate) fn ready_pods(&self, app: &str, count: usize) -> Vec<Pod> {
        self.eventually(&format!("{count} ready Pods of {app}"), |namespace| {
            let pods = namespace.pods(app);
            (pods.len() == count && pods.iter().all(Pod::is_ready)).then_some(pods)
        })
    }

    /// Asks until there is an answer; else says how the Pods are.
    #[track_caller]
    pub(crate) fn eventually<T>(&self, what: &str, condition: impl Fn(&Self) -> Option<T>) -> T {
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(PATIENCE, what, || condition(self))
        }));
        answer.unwrap_or_else(|panic| {
            for arguments in [&["get", "pods", "-o", "wide"][..], &["get", "events"], &["describe", "pods"]] {
                eprintln!("{}", self.try_kubectl(arguments, "").unwrap_or_else(|error| error));
            }
            std::panic::resume_unwind(panic)
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let arguments = ["kubectl", "delete", "namespace", &self.name, "--timeout=90s"];
        if let Err(error) = try_on_node(&arguments, "") {
            eprintln!("{error}");
        }
    }
}

// === impl Pod ===

impl Pod {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    /// Its uid.
    pub(crate) fn uid(&self) -> &str {
        self.0["metadata"]["uid"].as_str().unwrap()
    }

    /// Its address.
    pub(crate) fn ip(&self) -> &str {
        self.0["status"]["podIP"].as_str().unwrap()
    }

    /// How often a container was restarted.
    pub(crate) fn restarts(&self, container: &str) -> u64 {
        let states = self.0["status"]["containerStatuses"].as_array().unwrap();
        states.iter().find(|state| state["name"] == container).unwrap()["restartCount"].as_u64().unwrap()
    }

    fn is_ready(&self) -> bool {
        let conditions = self.0["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
    }
}
