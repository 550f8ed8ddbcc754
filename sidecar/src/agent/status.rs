//! What the agent says of a Pod, on the Pod: an annotation like a condition, and events.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::facts::Facts;
use super::metrics::{ApiCall, Metrics};
use crate::host::pod_cgroup::PodUid;

/// Says whether the Pod is armed.
pub const ANNOTATION: &str = "sidecar.dev/armed";
/// What waits to be told at most; more is lost and counted, and the annotation is tried again.
const WAITING: usize = 256;
/// An event's note may be this long (events.k8s.io/v1).
const NOTE: usize = 1024;
/// Events name it as the one that reports.
const CONTROLLER: &str = "sidecar.dev/agent";

/// The annotation, but for when and by which version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Traffic is handed to the proxy.
    pub armed: bool,
    /// Why, or why not: a word, or a sentence where arming failed.
    pub reason: String,
}

/// What happened to a Pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happened {
    /// It is armed.
    Armed,
    /// It is not any more.
    Disarmed,
    /// It cannot be, for this reason.
    ArmFailed(String),
}

enum Said {
    Report(Report),
    Happened(Happened),
}

/// Takes what is to be said. A handle: clones share it.
#[derive(Clone)]
pub struct Mouth {
    queue: mpsc::Sender<(Subject, Said)>,
    metrics: Metrics,
}

/// The Pod that something is said of.
#[derive(Clone)]
struct Subject {
    namespace: Box<str>,
    name: Box<str>,
    uid: PodUid,
}

impl Mouth {
    /// Says it by this client, in a task that ends with the runtime.
    pub fn new(client: Client, node: &str, metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(speak(client, node.to_owned(), waiting, metrics.clone()));
        Self { queue, metrics }
    }

    /// Sets the annotation.
    pub fn report(&self, pod: &Facts, report: Report) {
        self.say(pod, Said::Report(report));
    }

    /// Makes an event.
    pub fn happened(&self, pod: &Facts, what: Happened) {
        self.say(pod, Said::Happened(what));
    }

    fn say(&self, pod: &Facts, said: Said) {
        let subject =
            Subject { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
        if self.queue.try_send((subject, said)).is_err() {
            self.metrics.unsaid();
        }
    }
}

async fn speak(client: Client, node: String, mut waiting: mpsc::Receiver<(Subject, Said)>, metrics: Metrics) {
    let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(node) };
    let recorder = Recorder::new(client.clone(), reporter);
    while let Some((subject, said)) = waiting.recv().await {
        let (call, result) = match said {
            Said::Report(report) => (ApiCall::Patch, patch(&client, &subject, &report).await),
            Said::Happened(what) => {
                (ApiCall::Event, recorder.publish(&event(what), &reference(&subject)).await)
            }
        };
        match result {
            Ok(()) => {}
            // The Pod is gone, or another has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => {
                metrics.api_error(call);
                let Subject { namespace, name, .. } = &subject;
                tracing::warn!(%error, "{namespace}/{name}: nothing can be said of it");
            }
        }
    }
}

async fn patch(client: &Client, subject: &Subject, report: &Report) -> Result<(), kube::Error> {
    let Subject { namespace, name, uid } = subject;
    let since = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let Report { armed, reason } = report;
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({"armed": armed, "since": since, "reason": reason, "version": version}).to_string();
    // With another UID, the API refuses.
    let patch = json!({"metadata": {"uid": uid.as_str(), "annotations": {ANNOTATION: value}}});
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    pods.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

fn event(what: Happened) -> Event {
    let (type_, reason, note) = match what {
        Happened::Armed => (EventType::Normal, "Armed", "Traffic is handed to the sidecar".to_owned()),
        Happened::Disarmed => {
            (EventType::Normal, "Disarmed", "Traffic is not handed to the sidecar any more".to_owned())
        }
        Happened::ArmFailed(why) => (EventType::Warning, "ArmFailed", why),
    };
    let note = note.chars().take(NOTE / 4).collect();
    Event { type_, reason: reason.to_owned(), note: Some(note), action: "Arm".to_owned(), secondary: None }
}

fn reference(subject: &Subject) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(subject.namespace.to_string()),
        name: Some(subject.name.to_string()),
        uid: Some(subject.uid.to_string()),
        ..ObjectReference::default()
    }
}
