//! HTTP: a client's connection, the requests on it, and where they go.
//!
//! A request's walk: [`guard`] refuses what is not framed clearly, hyper reads it, [`exchange`] decides about it and has it
//! sent, [`upstream`] sends it, and [`record`] counts and logs it when its answer is over.

mod attempts;
mod body;
mod client;
mod connections;
mod exchange;
mod farewell;
mod framing;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod guard;
mod headers;
mod hedge;
mod interim;
mod limiters;
mod line;
mod metrics;
mod mirror;
mod own;
mod plan;
mod policies;
mod pool;
mod record;
mod reply;
mod rest;
mod routed;
mod secure;
mod serve;
mod streams;
mod tunnel;
mod upstream;
mod watch;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::HeaderMap;
use tokio::task::JoinSet;

pub use self::connections::Sent;
pub(crate) use self::line::Line;
pub use self::metrics::PlaneMetrics;
use self::plan::Plan;
pub use self::record::Requests;
pub use self::serve::serve;
use crate::config::route::BackendTarget;
use crate::config::{Config, Protocol, TargetRef};
use crate::observe::access_log::AccessLog;
use crate::observe::recorded::Recorder;
use crate::upstream::cluster::Chosen;

/// What a client's connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
}

/// What HTTP connections share.
pub struct Common {
    /// Counts of requests.
    requests: Arc<Requests>,
    /// A line for each request.
    access_log: Option<AccessLog>,
    /// What of requests and answers is in their lines beside.
    recorder: Option<Recorder>,
    /// The instance's name.
    instance: Arc<str>,
    /// The label of what goes where it was meant to.
    passthrough: Arc<str>,
    /// Requests that were sent again.
    retries: AtomicU64,
    /// Requests that a rate limit refused.
    limited: AtomicU64,
    /// How often a connection went to rest.
    rested: AtomicU64,
    /// Copies for mirrors that did not keep up.
    mirrors_cut: AtomicU64,
    /// What holds for requests that begin now.
    plan: RwLock<Arc<Plan>>,
    /// Look after the plan.
    keepers: Mutex<Keepers>,
}

/// Tasks that look after a plan, and end when this is dropped.
#[derive(Default)]
struct Keepers {
    /// After the endpoints of each cluster, by its address.
    clusters: HashMap<usize, JoinSet<()>>,
    /// After the keys of tokens.
    keys: JoinSet<()>,
}

impl Common {
    /// By the configuration. To be called within a runtime, which looks after endpoints and keys.
    pub fn new(
        config: &Config,
        instance: &str,
        requests: Arc<Requests>,
        access_log: Option<AccessLog>,
    ) -> Self {
        let plan = Arc::new(Plan::new(config, None));
        let common = Self {
            requests,
            access_log,
            recorder: config.access_log.record.as_ref().map(Recorder::new),
            instance: instance.into(),
            passthrough: "passthrough".into(),
            retries: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            rested: AtomicU64::new(0),
            mirrors_cut: AtomicU64::new(0),
            plan: RwLock::new(Arc::clone(&plan)),
            keepers: Mutex::default(),
        };
        common.look_after(&plan);
        common
    }

    /// How often a connection went to rest.
    pub fn rested(&self) -> u64 {
        self.rested.load(Ordering::Relaxed)
    }

    /// Requests that begin from now on follow this configuration.
    pub fn replace(&self, config: &Config) {
        let plan = Arc::new(Plan::new(config, Some(&self.plan())));
        self.look_after(&plan);
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// An endpoint of a backend, for a request of the proxy's own; and whether it is spoken to by HTTP/2.
    pub fn pick(&self, backend: &str, headers: &HeaderMap) -> Option<(Chosen, bool)> {
        let plan = self.plan();
        let cluster = routed::cluster(&plan, &BackendTarget::Backend(backend.to_owned())).ok()?;
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let by_http2 = matches!(cluster.protocol, Protocol::Http2 | Protocol::Grpc);
        Some((cluster.pick(headers, own, &[])?, by_http2))
    }

    /// Whether what goes out may go elsewhere than it was meant to.
    pub fn routes_outbound(&self) -> bool {
        self.plan().table.has_outbound()
    }

    /// Whether what comes in for this port may.
    pub fn routes_inbound(&self, port: u16) -> bool {
        let plan = self.plan();
        plan.table.has_inbound(port) || plan.policies_at(&TargetRef::Inbound(port)).is_some()
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn look_after(&self, plan: &Arc<Plan>) {
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of a cluster that stays go on: what they know of its health and names is not to be asked again.
        let mut before = std::mem::take(&mut keepers.clusters);
        for cluster in plan.clusters() {
            let address = Arc::as_ptr(cluster).addr();
            let keeper = before.remove(&address).unwrap_or_else(|| {
                let mut keeper = JoinSet::new();
                keeper.spawn(Arc::clone(cluster).keep());
                keeper
            });
            keepers.clusters.insert(address, keeper);
        }
        let keys = Arc::clone(plan);
        keepers.keys = JoinSet::new();
        keepers.keys.spawn(async move {
            keys.keys.refresh().await;
            keys.keys.keep_fresh().await;
        });
    }
}
