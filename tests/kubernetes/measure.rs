//! What arming costs on a node: printed, not judged. `cargo xtask kubernetes-test --measure` runs these.

use std::time::Duration;

use crate::cluster::{Namespace, Pod};
use crate::install::{Installed, wait_for_webhook};
use crate::node;
use crate::workload::{idle, injected};

/// Pods that start one after another, so that what is measured is not the other's use of the processors.
const PODS: usize = 50;
/// Armed Pods of one agent.
const MANY: usize = 100;
/// The agent's processor time is counted over so long a quiet time.
const QUIET: Duration = Duration::from_secs(30);

/// From the start of `sidecar-init` to its end and from the proxy's to its readiness.
#[test]
#[ignore = "measures"]
fn pods_that_arm_themselves() {
    let namespace = Namespace::new("measure", "");
    let pods = one_by_one(&namespace, |yaml| injected(yaml, &[]));
    let init = ages(&namespace, &pods, "sidecar-init", "armed");
    let proxy = ages(&namespace, &pods, "sidecar-proxy", "ready");
    let sum: Vec<_> = init.iter().zip(&proxy).map(|(init, proxy)| init + proxy).collect();
    for (what, times) in [("sidecar-init", &init), ("sidecar-proxy", &proxy), ("both", &sum)] {
        println!("{PODS} Pods of mode init: {what}: {}", spread(times));
    }
}

/// The same with an agent, whose memory and idle time are measured with twice as many.
#[test]
#[ignore = "measures"]
fn pods_that_the_agent_arms() {
    let _installed = Installed::new("agent");
    wait_for_webhook();
    let namespace = Namespace::new("measure", "sidecar.dev/inject: enabled");
    let pods = one_by_one(&namespace, str::to_owned);
    let proxy = ages(&namespace, &pods, "sidecar-proxy", "ready");
    println!("{PODS} Pods with an agent: sidecar-proxy: {}", spread(&proxy));
    scale(&namespace, MANY);
    println!("the agent with {MANY} armed Pods: {}", node::footprint_of_agent(QUIET));
}

/// The Pods, when all are ready.
fn one_by_one(namespace: &Namespace, inject: impl Fn(&str) -> String) -> Vec<Pod> {
    namespace.apply(&inject(&idle("idle", 1)));
    (1..PODS).for_each(|count| drop(scale(namespace, count)));
    scale(namespace, PODS)
}

fn scale(namespace: &Namespace, count: usize) -> Vec<Pod> {
    namespace.kubectl(&["scale", "deployment", "idle", &format!("--replicas={count}")], "");
    namespace.kubectl(&["rollout", "status", "deployment", "idle", "--timeout=600s"], "");
    namespace.ready_pods("idle", count)
}

/// How old the containers' processes were when they said `word`, in seconds, by Pod.
fn ages(namespace: &Namespace, pods: &[Pod], container: &str, word: &str) -> Vec<f64> {
    let age = |pod: &Pod| {
        let log = namespace.kubectl(&["logs", pod.name(), "-c", container], "");
        let line = log.lines().find(|line| line.contains(word) && line.contains("age="));
        let line = line.unwrap_or_else(|| panic!("{container} of {} never said `{word}`: {log}", pod.name()));
        seconds(line.split("age=").nth(1).unwrap().split_whitespace().next().unwrap())
    };
    pods.iter().map(age).collect()
}

/// As `{:?}` of a duration writes it.
fn seconds(text: &str) -> f64 {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    number("ms").map(|ms| ms / 1e3).or_else(|| number("s")).unwrap_or_else(|| panic!("no time: {text}"))
}

fn spread(times: &[f64]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
    format!("p50 {:.2} s, p95 {:.2} s, longest {:.2} s", at(50), at(95), at(100))
}
