//! Pod to Pod on one node, past the TCP stack.

use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use sidecar_tests::Finished;

use crate::cluster::Namespace;
use crate::install::{Installed, wait_for_webhook};
use crate::workload::{injected, metric, pod};

/// Where Debian has its programs.
const PROGRAMS: [&str; 2] = ["/usr/bin/redis-server", "/usr/bin/redis-benchmark"];

/// The programs' image, for all who run them.
static IMAGE: Once = Once::new();

/// What the Pods' sidecars are told.
const CONFIG: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: sidecar}
data:
  config.yaml: |
    apiVersion: sidecar.dev/v1alpha1
    kind: ProxyConfig
    metadata: {name: sidecar}
    spec: {interception: {bypassSameNode: true}}
";

/// Pods that arm themselves.
#[test]
fn redis_in_pods_with_init() {
    redis(&Namespace::new("bypass", ""), |pod| injected(pod, &[]));
}

/// Pods that the node's agent arms.
#[test]
fn redis_in_pods_of_the_agent() {
    let _installed = Installed::new("agent");
    wait_for_webhook();
    redis(&Namespace::new("bypass", "sidecar.dev/inject: enabled"), str::to_owned);
}

/// Two programs with an event loop, each with a proxy of its own: bytes between each program and its proxy are redirected,
/// and between the proxies.
#[track_caller]
fn redis(namespace: &Namespace, enrol: impl Fn(&str) -> String) {
    IMAGE.call_once(|| image_of("localhost/redis:1", &PROGRAMS));
    namespace.apply(CONFIG);
    let annotations = "sidecar.dev/bypass: \"full\", sidecar.dev/config: \"sidecar\"";
    let add = |name: &str, command: &[&str]| {
        namespace.apply(&enrol(&pod(name, annotations, "localhost/redis:1", command)));
        namespace.ready(name)
    };
    let server = add("server", &[PROGRAMS[0], "--protected-mode", "no", "--save", ""]);
    let load = [PROGRAMS[1], "-h", server.ip(), "-l", "-t", "set,get", "-d", "4096", "-c", "20", "-q"];
    let client = add("client", &load);
    for pod in [&server, &client] {
        for (name, label) in
            [("sidecar_tcp_sent_bytes_total", r#"path="bypass""#), ("sidecar_same_node_bytes_total", "")]
        {
            namespace.eventually(&format!("{name} past the TCP stack"), |_| {
                (metric(pod, name, &[label]) > 1e6).then_some(())
            });
        }
    }
}

/// Makes an image of programs that are installed here, with the libraries that they load, and imports it.
fn image_of(name: &str, programs: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let add = |file: &str| {
        let target = root.path().join(file.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    };
    for program in programs {
        assert!(Path::new(program).exists(), "needs {program}: `cargo xtask setup --tests` installs it");
        add(program);
        let libraries = Finished::of(Command::new("ldd").arg(program)).success();
        libraries.split_whitespace().filter(|word| word.starts_with('/')).for_each(add);
    }
    let script = env::var_os("SIDECAR_KUBERNETES_SH").unwrap();
    Finished::of(Command::new(script).args(["mkimage", name]).arg(root.path()).arg(programs[0])).success();
}
