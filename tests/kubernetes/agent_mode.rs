//! Pods that the webhook injects and the node's agent arms.

use crate::cluster::Namespace;
use crate::install::{Installed, wait_for_webhook};
use crate::load::Load;
use crate::node;
use crate::workload::{client, fetch, metric, web};

const INBOUND: &str = r#"direction="inbound""#;
const OUTBOUND: &str = r#"direction="outbound""#;

/// A running Pod is enrolled and let go under load, the agent is killed and upgraded meanwhile: no request fails, and
/// nothing stays.
#[test]
fn running_pods() {
    let installed = Installed::before_an_upgrade("agent");
    wait_for_webhook();
    let namespace = Namespace::new("agent", "sidecar.dev/inject: enabled");
    namespace.apply(&web("web", 1, "", "", ""));
    namespace.apply(&client("client", "", ""));
    let (web, client) = (namespace.ready("web"), namespace.ready("client"));
    let url = format!("http://{}:8080/", web.ip());
    let enrol = |app: &str, value: &str| {
        let annotation = format!("sidecar.dev/inject={value}");
        let pod = namespace.pods(app).remove(0);
        namespace.kubectl(&["annotate", "--overwrite", "pod", pod.name(), &annotation], "");
    };
    let armed = |app: &str, value: bool| {
        namespace.eventually(&format!("{app} armed: {value}"), |namespace| {
            let pod = namespace.pods(app).remove(0);
            let status = pod.0["metadata"]["annotations"]["sidecar.dev/armed"].as_str()?.to_owned();
            let status: serde_json::Value = serde_json::from_str(&status).ok()?;
            (status["armed"] == value).then_some(())
        });
    };
    let grows = |what: &str| {
        let before = metric(&web, "sidecar_requests_total", &[INBOUND]);
        namespace.eventually(what, |_| {
            (metric(&web, "sidecar_requests_total", &[INBOUND]) > before).then_some(())
        });
    };
    armed("web", true);
    armed("client", true);
    let load = Load::start(web.ip(), "8080");
    let go_and_come_back = || {
        grows("requests by the proxy");
        let before = metric(&client, "sidecar_requests_total", &[OUTBOUND]);
        fetch(&namespace, &client, &url).unwrap();
        assert!(metric(&client, "sidecar_requests_total", &[OUTBOUND]) > before, "outbound is captured");
        for (value, is_armed) in [("false", false), ("true", true)] {
            for app in ["web", "client"] {
                enrol(app, value);
                armed(app, is_armed);
            }
            let before = metric(&client, "sidecar_requests_total", &[OUTBOUND]);
            fetch(&namespace, &client, &url).unwrap();
            let captured = metric(&client, "sidecar_requests_total", &[OUTBOUND]) > before;
            assert_eq!(captured, is_armed);
        }
    };
    go_and_come_back();
    Installed::kill_agent();
    grows("requests while the agent is gone");
    Installed::wait_for_agent();
    installed.upgrade();
    grows("requests after the upgrade");
    // What the agent before armed, this one lets go.
    go_and_come_back();
    assert!(load.end() > 100);

    let uids = [web.uid().to_owned(), client.uid().to_owned()];
    namespace.kubectl(&["delete", "deployment", "web", "client", "--wait=true"], "");
    // By the agent.
    node::is_clean_of(&namespace, &uids, || {});
}

/// The webhook's refusals reach whoever applies, and who opts out is left alone.
#[test]
fn the_webhook() {
    let _installed = Installed::new("init");
    wait_for_webhook();
    let namespace = Namespace::new("webhook", "sidecar.dev/inject: enabled");
    let pod = |name: &str, annotations: &str, security: &str| {
        crate::workload::pod(
            name,
            annotations,
            "localhost/pause:1",
            &["sh", "-c", "trap exit TERM; sleep 3600 & wait"],
        )
        .replace("spec:\n", &format!("spec:\n{security}"))
    };
    let refused = namespace
        .try_kubectl(&["apply", "-f", "-"], &pod("taken", "", "  securityContext: {runAsUser: 1337}\n"))
        .unwrap_err();
    assert!(refused.contains("1337"), "{refused}");
    namespace.apply(&pod("out", "sidecar.dev/inject: \"false\"", ""));
    namespace.apply(&pod("in", "", ""));
    let containers = |app: &str| namespace.ready(app).0["spec"]["containers"].as_array().unwrap().len();
    assert_eq!((containers("out"), containers("in")), (1, 2));
}
