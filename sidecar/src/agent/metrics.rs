//! The agent's metrics, in the `OpenMetrics` text format, and its health. Every label value is one of a fixed set.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::jobs::Cause;
use crate::admin::serve::{Handler, Reply, only, reads, reply, text};
use crate::observe::metrics::CONTENT_TYPE;
use crate::observe::process::Process;

type Label = [(&'static str, &'static str); 1];

/// How it stands with Pods that the agent knows, for `sidecar_agent_pods`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PodState {
    /// Armed.
    Armed,
    /// Enrolled, and not armed yet.
    Waiting,
    /// Enrolled, and the last try failed.
    Failed,
    /// Not enrolled any more; what is under way ends.
    Leaving,
    /// Not enrolled.
    Disarmed,
}

/// What is asked of the API server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiCall {
    /// Watching Pods.
    Pods,
    /// Watching namespaces.
    Namespaces,
    /// Setting the annotation.
    Patch,
    /// Making an event.
    Event,
}

/// A handle: clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    pods: Family<Label, Gauge<u64, AtomicU64>>,
    seconds: Histogram,
    failures: Family<Label, Counter>,
    retries: Counter,
    api_errors: Family<Label, Counter>,
    unsaid: Counter,
    collected: Counter,
    synced: AtomicBool,
}

impl PodState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Armed, Self::Waiting, Self::Failed, Self::Leaving, Self::Disarmed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Leaving => "leaving",
            Self::Disarmed => "disarmed",
        }
    }
}

impl ApiCall {
    const ALL: [Self; 4] = [Self::Pods, Self::Namespaces, Self::Patch, Self::Event];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "watchPods",
            Self::Namespaces => "watchNamespaces",
            Self::Patch => "patchPod",
            Self::Event => "createEvent",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let inner = Inner {
            registry: Mutex::default(),
            pods: Family::default(),
            // From 10 ms to 5 s.
            seconds: Histogram::new(exponential_buckets(0.01, 2.0, 10)),
            failures: Family::default(),
            retries: Counter::default(),
            api_errors: Family::default(),
            unsaid: Counter::default(),
            collected: Counter::default(),
            synced: AtomicBool::new(false),
        };
        for state in PodState::ALL {
            drop(inner.pods.get_or_create(&[("state", state.as_str())]));
        }
        for cause in Cause::ALL {
            drop(inner.failures.get_or_create(&[("reason", cause.as_str())]));
        }
        for call in ApiCall::ALL {
            drop(inner.api_errors.get_or_create(&[("call", call.as_str())]));
        }
        let metrics = Self(Arc::new(inner));
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let of = &*self.0;
        let mut registry = of.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("sidecar_build", "The version that runs", build);
        registry.register(
            "sidecar_agent_pods",
            "Pods with a proxy, by how it stands with them",
            of.pods.clone(),
        );
        let help = "How long arming a Pod took, from the first look at it";
        registry.register("sidecar_agent_arm_seconds", help, of.seconds.clone());
        registry.register("sidecar_agent_arm_failures", "Tries that failed", of.failures.clone());
        let help = "Times that a Pod was looked at again, since it was not ready to be armed";
        registry.register("sidecar_agent_retries", help, of.retries.clone());
        registry.register(
            "sidecar_agent_api_errors",
            "Requests that the API server did not serve",
            of.api_errors.clone(),
        );
        let help = "Annotations and events that were lost, since the API server is too slow";
        registry.register("sidecar_agent_unsaid", help, of.unsaid.clone());
        registry.register(
            "sidecar_agent_collected",
            "Pods that are gone, whose pins were removed",
            of.collected.clone(),
        );
        registry.register_collector(Box::new(Process));
    }

    /// So many Pods are in each state.
    pub fn pods(&self, of_state: impl Fn(PodState) -> u64) {
        for state in PodState::ALL {
            self.0.pods.get_or_create(&[("state", state.as_str())]).set(of_state(state));
        }
    }

    /// A Pod was armed.
    pub fn armed(&self, took: Duration) {
        self.0.seconds.observe(took.as_secs_f64());
    }

    /// A Pod could not be armed, told or disarmed.
    pub fn failed(&self, cause: Cause) {
        self.0.failures.get_or_create(&[("reason", cause.as_str())]).inc();
    }

    /// A Pod is looked at again later.
    pub fn retried(&self) {
        self.0.retries.inc();
    }

    /// The API server did not serve.
    pub fn api_error(&self, call: ApiCall) {
        self.0.api_errors.get_or_create(&[("call", call.as_str())]).inc();
    }

    /// Something is not said.
    pub fn unsaid(&self) {
        self.0.unsaid.inc();
    }

    /// What a Pod left is removed.
    pub fn collected(&self) {
        self.0.collected.inc();
    }

    /// All Pods of the node were listed once.
    pub fn synced(&self) {
        self.0.synced.store(true, Ordering::Relaxed);
    }

    fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

impl Handler for Metrics {
    async fn handle(&self, request: &Request<Incoming>) -> Reply {
        if !reads(request.method()) {
            return only("GET");
        }
        match request.uri().path() {
            "/metrics" => match self.encode() {
                Ok(metrics) => reply(StatusCode::OK, CONTENT_TYPE, metrics),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be collected"),
            },
            // Starting again would not bring the API server back.
            "/healthz" => text(StatusCode::OK, "ok"),
            "/readyz" if self.0.synced.load(Ordering::Relaxed) => text(StatusCode::OK, "ready"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the Pods of this node are not known yet"),
            _ => text(StatusCode::NOT_FOUND, "here are /metrics, /healthz and /readyz"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_there_from_the_start() {
        let metrics = Metrics::default();
        metrics.pods(|state| u64::from(state == PodState::Armed));
        metrics.armed(Duration::from_millis(15));
        metrics.failed(Cause::Kernel);
        metrics.api_error(ApiCall::Patch);
        let text = metrics.encode().unwrap();
        for line in [
            r#"sidecar_agent_pods{state="armed"} 1"#,
            r#"sidecar_agent_pods{state="leaving"} 0"#,
            r#"sidecar_agent_arm_failures_total{reason="kernel"} 1"#,
            r#"sidecar_agent_api_errors_total{call="patchPod"} 1"#,
            r#"sidecar_agent_arm_seconds_bucket{le="0.02"} 1"#,
            "sidecar_agent_retries_total 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
