//! A set of endpoints that serve the same, and which of them gets the next request.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use tokio::time::{interval, sleep};

use super::balance::Balancer;
use super::balance::key::key_of;
use super::balance::load::Load;
use super::check;
use super::outlier::{Detector, Outcome};
use crate::config::traffic::{Algorithm, LoadBalancer, TrafficSpec};
use crate::config::{self, Protocol, Target};
use crate::http::Line;
use crate::policy::circuit::Circuit;

/// How often names are looked up again. The system's resolver does not tell how long an answer holds.
const LOOK_UP_EACH: Duration = Duration::from_secs(5);

/// A backend, or a port of a Service.
pub struct Cluster {
    /// For labels: `reviews-v1`, `default/reviews:80`.
    pub name: Arc<str>,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
    /// What it takes at once.
    pub circuit: Option<Circuit>,
    /// Requests that wait for a connection.
    pub(crate) line: Arc<Line>,
    /// After how many requests a connection is closed.
    pub max_requests: Option<u32>,
    balancing: LoadBalancer,
    spec: TrafficSpec,
    declared: Vec<config::Endpoint>,
    current: RwLock<Arc<Endpoints>>,
}

/// The endpoints that are known now.
pub struct Endpoints {
    /// In an order that stays.
    pub list: Vec<Arc<Endpoint>>,
    balancer: Balancer,
    detector: Option<Detector>,
}

/// One place that serves.
pub struct Endpoint {
    /// Never used again.
    pub id: u64,
    /// Where it is.
    pub at: At,
    /// The same, for people.
    pub name: String,
    /// What it is doing.
    pub load: Arc<Load>,
    weight: u32,
    zone: Option<String>,
    healthy: AtomicBool,
}

/// Where an endpoint is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum At {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// An endpoint that was chosen, in its set.
pub struct Chosen {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    set: Arc<Endpoints>,
    index: usize,
}

// === impl ===

impl Cluster {
    /// By what a backend declares. Names are looked up by [`Self::keep`].
    pub fn new(backend: &config::Backend, spec: TrafficSpec) -> Self {
        Self::of(Arc::from(backend.name.as_str()), backend.protocol, backend.endpoints.clone(), spec)
    }

    /// Of these endpoints.
    pub fn of(
        name: Arc<str>,
        protocol: Protocol,
        declared: Vec<config::Endpoint>,
        spec: TrafficSpec,
    ) -> Self {
        let balancing = spec.load_balancer.clone().unwrap_or_default();
        let found: Vec<_> =
            declared.iter().filter_map(|endpoint| Some((known(endpoint)?, endpoint))).collect();
        let current = Endpoints::new(&found, None, &balancing, &spec);
        let pool = spec.connection_pool.unwrap_or_default();
        Self {
            name,
            protocol,
            idle_timeout: pool.idle_timeout,
            connect_timeout: pool.connect_timeout,
            circuit: spec.connection_pool.as_ref().map(Circuit::new),
            line: Arc::default(),
            max_requests: pool.max_requests_per_connection,
            balancing,
            spec,
            declared,
            current: RwLock::new(Arc::new(current)),
        }
    }

    /// The endpoint for a request with these headers; not one of `tried`, as long as there are others.
    pub fn pick(&self, headers: &HeaderMap, client: SocketAddr, tried: &[u64]) -> Option<Chosen> {
        let set = self.endpoints();
        let now = Instant::now();
        let zone = self.balancing.zone.as_deref();
        let candidates: Vec<_> = set
            .list
            .iter()
            .enumerate()
            .map(|(index, endpoint)| {
                let ejected = set.detector.as_ref().is_some_and(|detector| detector.is_ejected(index));
                let local = zone.is_some() && endpoint.zone.as_deref() == zone;
                let weight = if tried.contains(&endpoint.id) { 0 } else { endpoint.weight };
                endpoint.load.candidate(weight, endpoint.is_healthy() && !ejected, local, now)
            })
            .collect();
        let key = match &self.balancing.algorithm {
            Algorithm::ConsistentHash(key) => key_of(key, headers, client.ip()),
            _ => None,
        };
        let index = set.balancer.pick(&candidates, key, &mut fastrand::Rng::new());
        drop(candidates);
        let Some(index) = index else {
            // All were tried: better one of them than none.
            return if tried.is_empty() { None } else { self.pick(headers, client, &[]) };
        };
        let endpoint = Arc::clone(set.list.get(index)?);
        Some(Chosen { endpoint, set, index })
    }

    /// The endpoints now.
    pub fn endpoints(&self) -> Arc<Endpoints> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many are left out for what they answered.
    pub fn ejected(&self) -> usize {
        self.endpoints().detector.as_ref().map_or(0, Detector::ejected_count)
    }

    /// Looks names up again, asks endpoints whether they are well, and lets those back in that were left out, until this is
    /// dropped.
    pub async fn keep(self: Arc<Self>) {
        let names = async {
            if !self.declared.iter().any(|endpoint| matches!(endpoint.target, Target::Dns(_))) {
                return std::future::pending().await;
            }
            loop {
                self.look_up().await;
                sleep(LOOK_UP_EACH).await;
            }
        };
        let ejections = async {
            let Some(config) = &self.spec.outlier_detection else { return std::future::pending().await };
            let mut ticks = interval(config.interval);
            loop {
                ticks.tick().await;
                let endpoints = self.endpoints();
                if let Some(detector) = &endpoints.detector {
                    detector.tick(Instant::now());
                }
            }
        };
        let checks = async {
            match &self.spec.health_check {
                Some(config) => check::keep_asking(&self, config).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = names => {}
            () = ejections => {}
            () = checks => {}
        }
    }

    /// Addresses that are known stay what they are, with their load. A name that is not found keeps its last addresses.
    async fn look_up(&self) {
        let before = self.endpoints();
        let mut found = Vec::new();
        for declared in &self.declared {
            let Target::Dns(dns) = &declared.target else {
                found.extend(known(declared).map(|at| (at, declared)));
                continue;
            };
            match tokio::net::lookup_host((dns.name.as_str(), dns.port)).await {
                Ok(addresses) => found.extend(addresses.map(|address| (At::Tcp(address), declared))),
                Err(error) => {
                    tracing::warn!(backend = %self.name, name = %dns.name, %error, "look up");
                    let kept = before.list.iter().filter(|endpoint| endpoint.port() == Some(dns.port));
                    found.extend(kept.map(|endpoint| (endpoint.at.clone(), declared)));
                }
            }
        }
        found.sort_by_key(|(at, _)| at.to_string());
        found.dedup_by(|(a, _), (b, _)| a == b);
        let same = found.len() == before.list.len()
            && before.list.iter().all(|endpoint| found.iter().any(|(at, _)| *at == endpoint.at));
        if !same {
            let endpoints = Endpoints::new(&found, Some(&before), &self.balancing, &self.spec);
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(endpoints);
        }
    }
}

/// Where an endpoint is, if that need not be looked up.
fn known(endpoint: &config::Endpoint) -> Option<At> {
    match &endpoint.target {
        Target::Address(address) => Some(At::Tcp(*address)),
        Target::Unix(path) => Some(At::Unix(path.clone())),
        Target::Dns(_) => None,
    }
}

impl Endpoints {
    fn new(
        found: &[(At, &config::Endpoint)],
        before: Option<&Self>,
        balancing: &LoadBalancer,
        spec: &TrafficSpec,
    ) -> Self {
        let now = Instant::now();
        let endpoint = |(at, declared): &(At, &config::Endpoint)| {
            let known = before.and_then(|before| before.list.iter().find(|one| one.at == *at));
            known.cloned().unwrap_or_else(|| Arc::new(Endpoint::new(at.clone(), declared, now)))
        };
        let list: Vec<_> = found.iter().map(endpoint).collect();
        let weights: Vec<_> = list.iter().map(|one| (one.name.as_str(), one.weight)).collect();
        let names = list.iter().map(|one| one.name.as_str());
        let detector =
            spec.outlier_detection.map(|config| match before.and_then(|before| before.detector.as_ref()) {
                Some(detector) => detector.renew(config, names),
                None => Detector::new(config, names),
            });
        Self { balancer: Balancer::new(balancing, &weights), detector, list }
    }
}

impl Endpoint {
    fn new(at: At, declared: &config::Endpoint, now: Instant) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            name: at.to_string(),
            at,
            load: Arc::new(Load::new(now)),
            weight: declared.weight,
            zone: declared.zone.clone(),
            healthy: AtomicBool::new(true),
        }
    }

    /// Its checks do not speak against it.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// What its checks say.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    fn port(&self) -> Option<u16> {
        match self.at {
            At::Tcp(address) => Some(address.port()),
            At::Unix(_) => None,
        }
    }
}

impl Chosen {
    /// How the endpoint did.
    pub fn record(&self, outcome: Outcome) {
        if let Some(detector) = &self.set.detector {
            detector.record(self.index, outcome, Instant::now());
        }
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
