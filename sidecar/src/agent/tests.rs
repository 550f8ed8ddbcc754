//! The watch, the loop's knowledge and what is said, against an API server that is a function.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower::service_fn;

use super::facts::tests::pod;
use super::jobs::{Cause, JobError, Outcome};
use super::known::Pods;
use super::metrics::Metrics;
use super::status::{Happened, Mouth, Report};
use super::wanted::{Action, Standing};
use super::watch::{self, Change};

/// What was asked: method, path with query, body.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

/// A client of a function from path and query to an answer; `None`: 404 as the API says it.
fn api(answer: fn(&str) -> Option<Value>) -> (Client, Asked) {
    let asked = Asked::default();
    let keep = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Body>| {
        let keep = Arc::clone(&keep);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let path = parts.uri.path_and_query().unwrap().to_string();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            keep.lock().unwrap().push((parts.method.to_string(), path.clone(), body));
            let refusal = || {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
                    "message": "no", "reason": "NotFound", "code": 404});
                (404, status)
            };
            let (status, body) = answer(&path).map_or_else(refusal, |body| (200, body));
            let body = Full::new(Bytes::from(body.to_string()));
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    (Client::new(service, "default"), asked)
}

fn listed(path: &str) -> Option<Value> {
    let list = |kind: &str, items: Value| {
        Some(json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items}))
    };
    match path {
        path if path.contains("watch=true") => Some(json!({"type": "BOOKMARK", "object": {"kind": "Pod",
            "apiVersion": "v1", "metadata": {"resourceVersion": "8"}}})),
        path if path.starts_with("/api/v1/pods?") && path.contains("spec.nodeName%3Dnode-1") => {
            let web = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
                "spec": {"containers": [{"name": "sidecar-proxy"}]}});
            list("PodList", json!([web]))
        }
        path if path.starts_with("/api/v1/namespaces?") => {
            let shop = json!({"metadata": {"name": "shop", "labels": {"sidecar.dev/inject": "enabled"}}});
            list("PartialObjectMetadataList", json!([shop, {"metadata": {"name": "default"}}]))
        }
        _ => None,
    }
}

#[tokio::test]
async fn pods_of_the_node_and_namespaces_are_listed() {
    let (client, _) = api(listed);
    let mut changes = watch::start(&client, "node-1", &Metrics::default());
    let (mut pods, mut namespaces) = (Vec::new(), Vec::new());
    let mut complete = 0;
    while complete < 2 {
        match timeout(Duration::from_secs(10), changes.recv()).await.unwrap().unwrap() {
            Change::Pod(facts) => pods.push((facts.uid.to_string(), facts.ours)),
            Change::Namespace(name, enrols) => namespaces.push((name.to_string(), enrols)),
            Change::PodsListed | Change::NamespacesListed => complete += 1,
            Change::PodsBegin | Change::NamespacesBegin | Change::PodGone(_) => {}
        }
    }
    assert_eq!(pods, [("u-1".to_owned(), true)]);
    assert_eq!(namespaces, [("shop".to_owned(), true), ("default".to_owned(), false)]);
}

#[tokio::test]
async fn a_pod_is_annotated_and_has_events() {
    let (client, asked) = api(|path| match path {
        path if path.contains("/events") => Some(json!({"metadata": {"name": "e", "namespace": "shop"},
            "kind": "Event", "apiVersion": "events.k8s.io/v1", "eventTime": null})),
        path if path.contains("/pods/web") => Some(json!({"metadata": {"name": "web"}, "kind":
            "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"})),
        _ => None,
    });
    let mouth = Mouth::new(client, "node-1", Metrics::default());
    let facts = pod(&json!({}));
    mouth.report(&facts, Report { armed: true, reason: "Armed".into() });
    mouth.happened(&facts, Happened::ArmFailed("no kernel".into()));
    let both = async {
        while asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), both).await.unwrap();
    let asked = asked.lock().unwrap();
    let (method, path, body) = &asked[0];
    assert!(method == "PATCH" && path.starts_with("/api/v1/namespaces/shop/pods/web?"), "{path}");
    assert_eq!(body["metadata"]["uid"], "u-1");
    let said: Value =
        serde_json::from_str(body["metadata"]["annotations"]["sidecar.dev/armed"].as_str().unwrap()).unwrap();
    assert_eq!((&said["armed"], &said["reason"]), (&json!(true), &json!("Armed")));
    assert!(said["since"].as_str().unwrap().ends_with('Z') && said["version"].is_string());
    let (method, path, body) = &asked[1];
    assert!(method == "POST" && path.starts_with("/apis/events.k8s.io/v1/namespaces/shop/events"), "{path}");
    assert_eq!((&body["reason"], &body["type"]), (&json!("ArmFailed"), &json!("Warning")));
    assert_eq!((&body["note"], &body["regarding"]["uid"]), (&json!("no kernel"), &json!("u-1")));
}

fn armed() -> Outcome {
    let cgroup = "/nowhere/pod-u-1".into();
    Outcome::Armed { generation: 9, cgroup, told: true, took: Duration::from_millis(3) }
}

#[tokio::test(start_paused = true)]
async fn a_pod_from_its_first_word_to_its_last() {
    let mut pods = Pods::default();
    let facts = pod(&json!({}));
    let uid = facts.uid.clone();
    pods.is(facts);
    assert_eq!(pods.next(Instant::now()), Some((uid.clone(), Action::Tell)));
    // While a job is at work, no other begins.
    pods.namespace("shop", true);
    assert_eq!(pods.next(Instant::now()), None);
    pods.done(&uid, Ok(Outcome::Told), Instant::now());
    assert_eq!(pods.next(Instant::now()), Some((uid.clone(), Action::Arm)));
    let news = pods.done(&uid, Ok(Outcome::Waiting("not yet")), Instant::now());
    assert!(news.again && pods.next(Instant::now()).is_none());
    tokio::time::advance(Duration::from_millis(60)).await;
    assert_eq!(pods.next(Instant::now()), Some((uid.clone(), Action::Arm)));
    let news = pods.done(&uid, Ok(armed()), Instant::now());
    assert_eq!(news.happened, Some(Happened::Armed));
    assert_eq!(pods.next(Instant::now()), Some((uid.clone(), Action::Nothing)));
    let said = pods.report(&uid, Instant::now()).map(|(_, report)| report);
    assert_eq!(said, Some(Report { armed: true, reason: "Armed".into() }));
    assert!(pods.report(&uid, Instant::now()).is_none(), "it has time to come back");
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(pods.report(&uid, Instant::now()).is_some(), "it was lost");

    pods.namespace("shop", false);
    assert_eq!(pods.next(Instant::now()), Some((uid.clone(), Action::Disarm)));
    let news = pods.done(&uid, Ok(Outcome::Disarmed { told: true }), Instant::now());
    assert_eq!(news.happened, Some(Happened::Disarmed));
    assert_eq!(pods.next(Instant::now()), Some((uid.clone(), Action::Nothing)), "the proxy may still ask");
    assert!(pods.next(Instant::now()).is_none());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(pods.next(Instant::now()), Some((uid.clone(), Action::Finish)));
    pods.gone(&uid);
    pods.done(&uid, Ok(Outcome::Gone), Instant::now());
    assert_eq!(pods.next(Instant::now()), Some((uid.clone(), Action::Forget)));
    assert!(pods.get(&uid).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_said_once_and_tried_ever_more_seldom() {
    let mut pods = Pods::default();
    let facts = pod(&json!({"metadata": {"annotations": {"sidecar.dev/inject": "true"}}}));
    let uid = facts.uid.clone();
    pods.is(facts);
    let mut waits = Vec::new();
    for turn in 0..8 {
        let begun = Instant::now();
        while pods.next(Instant::now()).is_none() {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        waits.push(begun.elapsed().as_secs());
        let news = pods.done(&uid, Err(JobError::Blind), Instant::now());
        assert_eq!(news.failed, Some(Cause::Node));
        assert_eq!(news.happened.is_some(), turn == 0);
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60]);
}

/// What an agent before this one armed is not touched until all Pods are known, and then only if its Pod is gone.
#[tokio::test]
async fn what_is_adopted_is_kept() {
    let mut pods = Pods::default();
    for uid in ["u-1", "u-2"] {
        pods.adopt(uid.parse().unwrap(), Standing::Armed { generation: 1 }, None);
    }
    assert_eq!(pods.due(), None);
    pods.begin_list();
    pods.namespace("shop", true);
    pods.is(pod(&json!({"status": {"containerStatuses": []}})));
    pods.end_list();
    let mut next: Vec<_> = std::iter::from_fn(|| pods.next(Instant::now()))
        .map(|(uid, action)| (uid.to_string(), action))
        .collect();
    next.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(next, [("u-1".to_owned(), Action::Nothing), ("u-2".to_owned(), Action::Collect)]);
}
