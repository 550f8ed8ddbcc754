//! A set of endpoints that serve the same, and which of them gets the next request.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::balance::Balancer;
use super::balance::key::key_of;
use super::balance::load::Load;
use super::check;
use super::names::Known;
use super::outlier::{Detector, Outcome};
use crate::config::traffic::{Algorithm, LoadBalancer, TrafficSpec};
use crate::config::{self, BackendTls, Protocol, Target};
use crate::http::Line;
use crate::policy::circuit::Circuit;
use crate::tls::Peer;

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
    tls: Option<BackendTls>,
    spec: TrafficSpec,
    declared: Vec<config::Endpoint>,
    /// Of each of them that is a name, its addresses.
    found: Mutex<Vec<Vec<IpAddr>>>,
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
    /// How it is spoken to in secret. `None`: it is not.
    pub tls: Option<Peer>,
    /// Where it is, for people.
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
        let (name, endpoints) = (Arc::from(backend.name.as_str()), backend.endpoints.clone());
        Self::of(name, backend.protocol, backend.tls.clone(), endpoints, spec)
    }

    /// Of these endpoints.
    pub fn of(
        name: Arc<str>,
        protocol: Protocol,
        tls: Option<BackendTls>,
        declared: Vec<config::Endpoint>,
        spec: TrafficSpec,
    ) -> Self {
        let balancing = spec.load_balancer.clone().unwrap_or_default();
        let found: Vec<_> =
            declared.iter().filter_map(|endpoint| Some((known(endpoint)?, endpoint))).collect();
        let current = Endpoints::new(&found, None, tls.as_ref(), &balancing, &spec);
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
            tls,
            spec,
            found: Mutex::new(vec![Vec::new(); declared.len()]),
            declared,
            current: RwLock::new(Arc::new(current)),
        }
    }

    /// The same is said of both: one can serve in the other's place.
    pub fn is_declared_like(&self, other: &Self) -> bool {
        self.name == other.name
            && self.protocol == other.protocol
            && self.declared == other.declared
            && self.tls == other.tls
            && self.spec == other.spec
    }

    /// Takes over what another knows of the names that both have, until they are looked up again.
    pub fn inherit(&self, other: &Self) {
        let of_other = other.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (index, endpoint) in self.declared.iter().enumerate() {
            let is_same = |one: &config::Endpoint| one.target == endpoint.target;
            let known = other.declared.iter().position(is_same).and_then(|place| of_other.get(place));
            if let Some(addresses) = known.filter(|addresses| !addresses.is_empty()) {
                self.set_addresses(index, addresses);
            }
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
            let mut names = JoinSet::new();
            for (index, declared) in self.declared.iter().enumerate() {
                if let Target::Dns(dns) = &declared.target {
                    names.spawn(Arc::clone(&self).follow(index, dns.name.clone()));
                }
            }
            while names.join_next().await.is_some() {}
            std::future::pending::<()>().await;
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

    /// Looks a name up as often as its answers say. While that fails, its last addresses stay.
    async fn follow(self: Arc<Self>, index: usize, name: String) {
        let mut known = Known::default();
        loop {
            let (wait, looked_up) = known.renew(&name).await;
            match looked_up {
                Ok(()) => self.set_addresses(index, &known.addresses),
                Err(error) => tracing::warn!(backend = %self.name, %name, %error, "look up"),
            }
            sleep(wait).await;
        }
    }

    /// Endpoints that are known stay what they are, with their load.
    fn set_addresses(&self, index: usize, addresses: &[IpAddr]) {
        let mut of_names = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = of_names.get_mut(index) {
            addresses.clone_into(place);
        }
        let mut found = Vec::new();
        for (declared, addresses) in self.declared.iter().zip(of_names.iter()) {
            if let Target::Dns(dns) = &declared.target {
                let at = |address: &IpAddr| (At::Tcp((*address, dns.port).into()), declared);
                found.extend(addresses.iter().map(at));
            } else {
                found.extend(known(declared).map(|at| (at, declared)));
            }
        }
        // Two names of one address are two servers where each must show its own.
        let peer = |declared: &config::Endpoint| self.tls.as_ref().and_then(|tls| tls.peer(&declared.target));
        found.sort_by_cached_key(|(at, declared)| {
            (at.to_string(), peer(declared).map(|one| one.name.to_str().into_owned()))
        });
        found.dedup_by(|(a, one), (b, other)| a == b && peer(one) == peer(other));
        // Still under the lock: of two names, neither undoes what the other found.
        let before = self.endpoints();
        let is_found = |endpoint: &Arc<Endpoint>| {
            found.iter().any(|(at, declared)| *at == endpoint.at && peer(declared) == endpoint.tls)
        };
        let same = found.len() == before.list.len() && before.list.iter().all(is_found);
        if !same {
            let endpoints =
                Endpoints::new(&found, Some(&before), self.tls.as_ref(), &self.balancing, &self.spec);
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
        tls: Option<&BackendTls>,
        balancing: &LoadBalancer,
        spec: &TrafficSpec,
    ) -> Self {
        let now = Instant::now();
        let endpoint = |(at, declared): &(At, &config::Endpoint)| {
            let peer = match tls {
                // Who cannot be told from others is not spoken to; validation has refused that.
                Some(tls) => Some(tls.peer(&declared.target)?),
                None => None,
            };
            let is_same = |one: &&Arc<Endpoint>| one.at == *at && one.tls == peer;
            let known = before.and_then(|before| before.list.iter().find(is_same));
            Some(known.cloned().unwrap_or_else(|| Arc::new(Endpoint::new(at.clone(), declared, peer, now))))
        };
        let list: Vec<_> = found.iter().filter_map(endpoint).collect();
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
    fn new(at: At, declared: &config::Endpoint, tls: Option<Peer>, now: Instant) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            name: at.to_string(),
            at,
            tls,
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
