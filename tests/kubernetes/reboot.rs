//! A node that loses its power: all processes of Pods end, and what is only in memory is gone. The kubelet makes the Pods' sandboxes
//! again; the Pods, their UIDs and their volumes stay.

use crate::cluster::{Namespace, Pod};
use crate::install::{Installed, wait_for_webhook};
use crate::node;
use crate::workload::{client, fetch, injected, metric, web};

const OUTBOUND: &str = r#"direction="outbound""#;

#[test]
fn of_pods_that_arm_themselves() {
    let namespace = Namespace::new("reboot", "");
    comes_back(&namespace, |yaml| injected(yaml, &[]), || {});
}

#[test]
fn of_pods_that_the_agent_arms() {
    let _installed = Installed::new("agent");
    wait_for_webhook();
    let namespace = Namespace::new("reboot", "sidecar.dev/inject: enabled");
    // Which knows nothing of them then.
    comes_back(&namespace, str::to_owned, Installed::kill_agent);
}

fn comes_back(namespace: &Namespace, inject: impl Fn(&str) -> String, power_off_besides: impl Fn()) {
    namespace.apply(&inject(&web("web", 1, "", "", "")));
    namespace.apply(&inject(&client("client", "", "")));
    let before = [namespace.ready("web"), namespace.ready("client")];
    is_captured(namespace, &before);
    node::power_off(&before);
    power_off_besides();
    let after = [restarted(namespace, &before[0], "web"), restarted(namespace, &before[1], "client")];
    is_captured(namespace, &after);
}

#[track_caller]
fn restarted(namespace: &Namespace, before: &Pod, app: &str) -> Pod {
    namespace.eventually(&format!("{app} to run again"), |namespace| {
        let pod = namespace.ready(app);
        assert_eq!(pod.uid(), before.uid());
        (pod.restarts("app") > 0 && pod.restarts("sidecar-proxy") > 0).then_some(pod)
    })
}

#[track_caller]
fn is_captured(namespace: &Namespace, [web, client]: &[Pod; 2]) {
    let before = metric(client, "sidecar_requests_total", &[OUTBOUND]);
    let page = fetch(namespace, client, &format!("http://{}:8080/", web.ip())).unwrap();
    assert_eq!(page.trim(), web.name());
    assert!(metric(client, "sidecar_requests_total", &[OUTBOUND]) > before, "outbound is captured");
}
