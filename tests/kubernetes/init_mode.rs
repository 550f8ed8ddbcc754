//! A Pod that arms itself: `sidecar init`, and the proxy beside the application.

use crate::cluster::Namespace;
use crate::node;
use crate::workload::{client, fetch, injected, metric, web};

const INBOUND: &str = r#"direction="inbound""#;
const OUTBOUND: &str = r#"direction="outbound""#;

/// Scaled, rolled and deleted; both directions are captured, and nothing stays on the node.
#[test]
fn a_deployment() {
    let namespace = Namespace::new("deployment", "");
    let web_yaml = |version: &str| injected(&web("web", 2, &format!("version: \"{version}\""), "", ""), &[]);
    namespace.apply(&web_yaml("1"));
    namespace.apply(&injected(&client("client", "", ""), &[]));
    let (servers, client) = (namespace.ready_pods("web", 2), namespace.ready("client"));
    for server in &servers {
        let page = fetch(&namespace, &client, &format!("http://{}:8080/", server.ip())).unwrap();
        assert_eq!(page.trim(), server.name());
        assert!(metric(server, "sidecar_requests_total", &[INBOUND]) >= 1.0, "inbound is captured");
    }
    assert!(metric(&client, "sidecar_requests_total", &[OUTBOUND]) >= 2.0, "outbound is captured");

    namespace.kubectl(&["scale", "deployment", "web", "--replicas=3"], "");
    namespace.ready_pods("web", 3);
    namespace.apply(&web_yaml("2"));
    namespace.kubectl(&["rollout", "status", "deployment", "web", "--timeout=120s"], "");
    let rolled = namespace.ready_pods("web", 2);
    assert!(rolled.iter().all(|pod| servers.iter().all(|old| old.uid() != pod.uid())));

    namespace.kubectl(&["delete", "deployment", "web", "client", "--wait=true"], "");
    namespace.eventually("the end of the Pods", |namespace| {
        (namespace.pods("web").len() + namespace.pods("client").len() == 0).then_some(())
    });
    let uids: Vec<_> =
        servers.iter().chain(&rolled).chain([&client]).map(|pod| pod.uid().to_owned()).collect();
    node::is_clean_of(&namespace, &uids, node::detach_gone);
}

/// An init container of the application comes first and reaches the network.
#[test]
fn init_containers_have_network() {
    let namespace = Namespace::new("first", "");
    namespace.apply(&web("plain", 1, "", "", ""));
    let plain = namespace.ready("plain");
    let fetches = format!(
        "initContainers:\n- name: fetch\n  image: localhost/busybox:1\n  command: [wget, \"-q\", \"-O\", \"-\", \"http://{}:8080/\"]",
        plain.ip()
    );
    for down in ["open", "closed"] {
        let annotations = format!("sidecar.dev/on-proxy-down: \"{down}\"");
        namespace.apply(&injected(&client(down, &annotations, &fetches), &[]));
        let pod = namespace.ready(down);
        let said = namespace.kubectl(&["logs", pod.name(), "-c", "fetch"], "");
        assert_eq!(said.trim(), plain.name());
    }
}

/// What happens while the proxy is down is what was asked for.
#[test]
fn the_proxy_is_killed() {
    let namespace = Namespace::new("killed", "");
    namespace.apply(&web("plain", 1, "", "", ""));
    let plain = namespace.ready("plain");
    let url = format!("http://{}:8080/", plain.ip());
    for down in ["open", "closed"] {
        let annotations = format!("sidecar.dev/on-proxy-down: \"{down}\"");
        namespace.apply(&injected(&client(down, &annotations, ""), &[]));
        let pod = namespace.ready(down);
        assert!(fetch(&namespace, &pod, &url).is_ok());
        let without = node::without_proxy(&namespace, down, || fetch(&namespace, &pod, &url));
        assert_eq!(without.is_ok(), down == "open", "{without:?}");
        let before = metric(&namespace.ready(down), "sidecar_requests_total", &[OUTBOUND]);
        assert!(fetch(&namespace, &pod, &url).is_ok());
        assert!(metric(&pod, "sidecar_requests_total", &[OUTBOUND]) > before, "captured again");
    }
}
