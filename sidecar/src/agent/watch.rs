//! What the API server says of this node's Pods and of namespaces, cut down to what is kept.

use std::pin::pin;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};

use super::facts::Facts;
use super::metrics::{ApiCall, Metrics};
use crate::host::pod_cgroup::PodUid;
use crate::kubernetes::annotations::{ENABLED, INJECT};

/// Whole objects are in memory for as many as are listed at once.
const PAGE: u32 = 50;
/// What is known and not looked at yet; the API server's words then wait in its own buffers.
const WAITING: usize = 64;

/// Something is known.
#[derive(Debug)]
pub enum Change {
    /// A Pod is so.
    Pod(Facts),
    /// A Pod is gone.
    PodGone(PodUid),
    /// What follows, until [`Self::PodsListed`], is all there is.
    PodsBegin,
    /// Those were all.
    PodsListed,
    /// A namespace enrols its Pods, or does not.
    Namespace(Box<str>, bool),
    /// Likewise for namespaces.
    NamespacesBegin,
    /// Likewise.
    NamespacesListed,
}

/// Watches for as long as the runtime runs, whatever the API server does: what fails is tried again, ever more seldom.
pub fn start(client: &Client, node: &str, metrics: &Metrics) -> mpsc::Receiver<Change> {
    let (changes, receiver) = mpsc::channel(WAITING);
    let of_node = watcher::Config::default().page_size(PAGE).fields(&format!("spec.nodeName={node}"));
    let pods = kube::runtime::watcher(Api::<Pod>::all(client.clone()), of_node).default_backoff();
    let all = watcher::Config::default().page_size(PAGE);
    let namespaces = kube::runtime::watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), all);
    let namespaces = namespaces.default_backoff();
    tokio::spawn(pass_on(pods, of_pod, changes.clone(), metrics.clone(), ApiCall::Pods));
    tokio::spawn(pass_on(namespaces, of_namespace, changes, metrics.clone(), ApiCall::Namespaces));
    receiver
}

async fn pass_on<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    change: fn(Event<K>) -> Option<Change>,
    changes: mpsc::Sender<Change>,
    metrics: Metrics,
    call: ApiCall,
) {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if let Some(change) = change(event)
                    && changes.send(change).await.is_err()
                {
                    return;
                }
            }
            Err(error) => {
                metrics.api_error(call);
                tracing::warn!(%error, "the API server cannot be watched; what is armed stays");
            }
        }
    }
}

fn of_pod(event: Event<Pod>) -> Option<Change> {
    match event {
        Event::Apply(pod) | Event::InitApply(pod) => Facts::of(&pod).map(Change::Pod),
        Event::Delete(pod) => pod.uid()?.try_into().ok().map(Change::PodGone),
        Event::Init => Some(Change::PodsBegin),
        Event::InitDone => Some(Change::PodsListed),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "in the place of the other")]
fn of_namespace(event: Event<PartialObjectMeta<Namespace>>) -> Option<Change> {
    match event {
        Event::Apply(namespace) | Event::InitApply(namespace) => {
            let enrols = namespace.labels().get(INJECT).is_some_and(|value| value == ENABLED);
            Some(Change::Namespace(namespace.name_any().into(), enrols))
        }
        Event::Delete(namespace) => Some(Change::Namespace(namespace.name_any().into(), false)),
        Event::Init => Some(Change::NamespacesBegin),
        Event::InitDone => Some(Change::NamespacesListed),
    }
}
