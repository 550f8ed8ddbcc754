//! A Pod's life with a sidecar: probes, Jobs, a graceful end, and new configuration.

use crate::cluster::{Namespace, PATIENCE};
use crate::workload::{client, fetch, injected, metric, web};

/// The kubelet's probes reach the application as they would without.
#[test]
fn probes() {
    let namespace = Namespace::new("probes", "");
    for (name, probe) in [
        ("http", "httpGet: {path: /, port: 8080}"),
        ("tcp", "tcpSocket: {port: 8080}"),
        ("exec", "exec: {command: [wget, -q, -O, /dev/null, \"http://127.0.0.1:8080/\"]}"),
    ] {
        for down in ["open", "closed"] {
            let name = format!("{name}-{down}");
            let annotations = format!("sidecar.dev/on-proxy-down: \"{down}\"");
            let container = format!(
                "readinessProbe: {{{probe}, periodSeconds: 1}}\nlivenessProbe: {{{probe}, periodSeconds: 1, failureThreshold: 10}}"
            );
            namespace.apply(&injected(&web(&name, 1, &annotations, "", &container), &[]));
            assert_eq!(namespace.ready(&name).restarts("app"), 0);
        }
    }
    // The page that it serves goes: the kubelet sees the application's own answer.
    let pod = namespace.ready("http-closed");
    namespace.exec(pod.name(), "app", &["rm", "/tmp/www/index.html"]).unwrap();
    namespace.eventually("a probe that fails", |namespace| {
        let pod = namespace.pods("http-closed").remove(0);
        let states = pod.0["status"]["containerStatuses"].as_array()?.clone();
        states.iter().any(|state| state["name"] == "app" && state["ready"] == false).then_some(())
    });
}

/// The proxy of a Job leaves when the application has, and the Job is complete.
#[test]
fn a_job_completes() {
    let namespace = Namespace::new("job", "");
    namespace.apply(&web("plain", 1, "", "", ""));
    let plain = namespace.ready("plain");
    let job = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: once}}\nspec:\n  backoffLimit: 3\n  template:\n    metadata: {{labels: {{app: once}}}}\n    \
         spec:\n      restartPolicy: Never\n      containers:\n      - name: app\n        image: localhost/busybox:1\n        \
         command: [sh, -c, \"until wget -q -O - http://{}:8080/; do sleep 0.2; done\"]\n",
        plain.ip()
    );
    namespace.apply(&injected(&job, &[]));
    namespace.kubectl(&["wait", "--for=condition=complete", "job/once", "--timeout=120s"], "");
    let said = namespace.kubectl(&["logs", "-l", "app=once", "-c", "app"], "");
    assert!(said.contains(plain.name()), "{said}");
}

/// An application that works on in its `preStop` keeps its proxy until it has ended.
#[test]
fn the_proxy_outlives_the_application() {
    let namespace = Namespace::new("outlive", "");
    namespace.apply(&web("plain", 1, "", "", ""));
    let plain = namespace.ready("plain");
    // A listener stays open meanwhile, as a server's does.
    let stop = format!(
        "for i in 1 2 3 4 5 6; do sleep 1; wget -q -O - http://{}:8080/ >>/proc/1/fd/1 || echo failed >>/proc/1/fd/1; done",
        plain.ip()
    );
    let container = format!("lifecycle: {{preStop: {{exec: {{command: [sh, -c, \"{stop}\"]}}}}}}");
    let annotations = "sidecar.dev/on-proxy-down: \"closed\"";
    namespace.apply(&injected(&web("leaving", 1, annotations, "", &container), &[]));
    let pod = namespace.ready("leaving");
    let mut logs = namespace.follow_logs(pod.name(), "app");
    let patience = format!("--timeout={}s", PATIENCE.as_secs());
    namespace.kubectl(&["delete", "pod", pod.name(), "--wait=true", &patience], "");
    let said = logs.wait().stdout;
    assert_eq!(said.matches(plain.name()).count(), 6, "{said}");
}

/// What a ConfigMap says next is what the proxy does next.
#[test]
fn a_config_map_is_reloaded() {
    let namespace = Namespace::new("reload", "");
    let config_map = |word: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: hello}}\ndata:\n  hello.yaml: |\n    \
             apiVersion: gateway.networking.k8s.io/v1\n    kind: HTTPRoute\n    metadata: {{name: own}}\n    spec:\n      \
             parentRefs: [{{group: sidecar.dev, kind: Inbound, port: 8080}}]\n      rules:\n      - filters:\n        - type: ExtensionRef\n          \
             extensionRef: {{group: sidecar.dev, kind: DirectResponse, name: hello}}\n    ---\n    \
             apiVersion: sidecar.dev/v1alpha1\n    kind: DirectResponse\n    metadata: {{name: hello}}\n    spec: {{status: 200, body: \"{word}\"}}\n"
        )
    };
    namespace.apply(&config_map("first"));
    namespace.apply(&injected(&web("web", 1, "sidecar.dev/config: hello", "", ""), &[]));
    namespace.apply(&client("client", "", ""));
    let (web, client) = (namespace.ready("web"), namespace.ready("client"));
    let url = format!("http://{}:8080/", web.ip());
    assert_eq!(fetch(&namespace, &client, &url).unwrap(), "first");
    namespace.apply(&config_map("second"));
    namespace.eventually("the new answer", |namespace| {
        (fetch(namespace, &client, &url).ok()? == "second").then_some(())
    });
    // One that is none changes nothing, and is told.
    namespace.apply(&config_map("third\"}\n    oops: {\"a"));
    namespace.eventually("the refusal", |_| {
        (metric(&web, "sidecar_config_rejected_total", &[]) > 0.0).then_some(())
    });
    assert_eq!(fetch(&namespace, &client, &url).unwrap(), "second");
}
