//! What runs in the Pods: a web server, a client that can be told what to fetch, and the sidecar beside them.

use sidecar_tests::{Finished, Program, binary};

use crate::cluster::{IMAGE, Namespace, Pod, try_on_node};

/// A Deployment of web servers that answer with their Pod's name on port 8080. `annotations`: of the Pod, as
/// `name: "value", ...`; `spec`: further lines of the Pod's spec, `container`: of the container.
pub(crate) fn web(name: &str, replicas: u32, annotations: &str, spec: &str, container: &str) -> String {
    let script = "mkdir -p /tmp/www; hostname >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
    deployment(name, replicas, annotations, spec, script, container)
}

/// A Deployment of a Pod that waits for what it is told by `exec`.
pub(crate) fn client(name: &str, annotations: &str, spec: &str) -> String {
    deployment(name, 1, annotations, spec, "trap exit TERM; while :; do sleep 1; done", "")
}

/// A Deployment of Pods that do nothing, whose sidecars say when they are ready.
pub(crate) fn idle(name: &str, replicas: u32) -> String {
    let annotations = "sidecar.dev/log-level: \"info\"";
    deployment(name, replicas, annotations, "", "trap exit TERM; sleep 100000 & wait", "")
}

fn deployment(
    name: &str,
    replicas: u32,
    annotations: &str,
    spec: &str,
    script: &str,
    container: &str,
) -> String {
    let indented = |text: &str, by: usize| {
        text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect::<String>()
    };
    let (spec, container) = (indented(spec, 6), indented(container, 8));
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata:\n      labels: {{app: {name}}}\n      \
         annotations: {{{annotations}}}\n    spec:\n{spec}      containers:\n      - name: app\n        \
         image: localhost/busybox:1\n        command: [sh, -c, \"{script}\"]\n{container}"
    )
}

/// A Pod with one container.
pub(crate) fn pod(name: &str, annotations: &str, image: &str, command: &[&str]) -> String {
    let command = serde_json::to_string(command).unwrap();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}, annotations: {{{annotations}}}}}\n\
         spec:\n  terminationGracePeriodSeconds: 5\n  containers:\n  - {{name: app, image: \"{image}\", command: {command}}}\n"
    )
}

/// Adds the sidecar as a user does, by `sidecar inject`.
#[track_caller]
pub(crate) fn injected(yaml: &str, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(binary());
    command.args(["inject", "-f", "-", "--image", IMAGE]).args(arguments);
    let mut program = Program::start(&mut command);
    program.say(yaml);
    program.close_stdin();
    let Finished { status, stdout, stderr } = program.wait();
    assert!(status.success(), "{stderr}");
    stdout
}

/// What a page says, asked for from a container.
pub(crate) fn fetch(from: &Namespace, pod: &Pod, url: &str) -> Result<String, String> {
    from.exec(pod.name(), "app", &["wget", "-q", "-O", "-", url])
}

/// A sample of a Pod's metrics: the sum of those that hold all of `labels`.
pub(crate) fn metric(pod: &Pod, name: &str, labels: &[&str]) -> f64 {
    let url = format!("http://{}:15020/metrics", pod.ip());
    let Ok(text) = try_on_node(&["curl", "-sS", "--max-time", "5", &url], "") else { return 0.0 };
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
