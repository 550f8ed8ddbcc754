//! What a configuration means for requests: where they go, and what is decided about them on the way.

use std::collections::HashMap;
use std::sync::Arc;

use super::limiters::Limiters;
use super::policies::Policies;
use crate::config::route::{BackendTarget, DirectResponse, HttpRule};
use crate::config::{self, Config, ObjectName, Protocol, Target, TargetRef};
use crate::policy::access::KeyStores;
use crate::route::{RouteSet, RouteTable};
use crate::upstream::cluster::Cluster;

/// One configuration, ready for requests. A request keeps the one that it began with.
pub(super) struct Plan {
    /// Which rule a request gets.
    pub table: RouteTable,
    /// The keys of tokens.
    pub keys: KeyStores,
    limiters: Limiters,
    clusters: HashMap<BackendTarget, Arc<Cluster>>,
    /// By rule: each is one object in one place.
    of_rules: HashMap<usize, Arc<Policies>>,
    /// Of requests that have no rule, by where they came in.
    of_places: HashMap<TargetRef, Arc<Policies>>,
    of_backends: HashMap<BackendTarget, Arc<Policies>>,
    responses: HashMap<String, DirectResponse>,
    /// Somewhere it is asked who asks.
    pub has_access: bool,
}

impl Plan {
    /// `before`: whose keys are kept, and whose clusters where nothing else is said of them. So their endpoints stay known, with
    /// what is known of them: names, health, connections.
    pub(super) fn new(config: &Config, before: Option<&Self>) -> Self {
        let table = RouteTable::new(config);
        let keys = KeyStores::new(&config.access, before.map(|before| &before.keys));
        let mut limiters = Limiters::after(before.map(|before| &before.limiters));
        let mut of_rules = HashMap::new();
        for set in table.sets() {
            for (label, rule) in set.rules() {
                of_rules.entry(key(rule)).or_insert_with(|| {
                    let route = TargetRef::Route(route_of(label));
                    Arc::new(Policies::new(
                        config,
                        &keys,
                        &mut limiters,
                        &[route, set.place().clone()],
                        Some(rule),
                    ))
                });
            }
        }
        let mut alone = |target: &TargetRef| {
            Arc::new(Policies::new(config, &keys, &mut limiters, std::slice::from_ref(target), None))
        };
        let of_places: HashMap<_, _> =
            targets(config).map(|target| (target.clone(), alone(&target))).collect();
        limiters.settle();
        let of_backend = |target: &BackendTarget| match target {
            BackendTarget::Backend(name) => of_places.get(&TargetRef::Backend(name.clone())).cloned(),
            BackendTarget::Service { name, .. } => of_places.get(&TargetRef::Service(name.clone())).cloned(),
            BackendTarget::Invalid(_) => None,
        };
        let kept = |target: &BackendTarget, cluster: Cluster| match before
            .and_then(|before| before.clusters.get(target))
        {
            Some(old) if old.is_declared_like(&cluster) => Arc::clone(old),
            Some(old) => {
                cluster.inherit(old);
                Arc::new(cluster)
            }
            None => Arc::new(cluster),
        };
        let backends = config.backends.values().map(|backend| {
            let spec = config.traffic_of(&[TargetRef::Backend(backend.name.clone())]);
            let target = BackendTarget::Backend(backend.name.clone());
            let cluster = kept(&target, Cluster::new(backend, spec));
            (target, cluster)
        });
        let services = config.routes.services.values().flat_map(|service| {
            service.ports.iter().map(|port| {
                let target = BackendTarget::Service { name: service.name.clone(), port: port.port };
                let cluster = kept(&target, of_service(config, service, port));
                (target, cluster)
            })
        });
        let clusters: HashMap<BackendTarget, Arc<Cluster>> = backends.chain(services).collect();
        let of_backends =
            clusters.keys().filter_map(|target| Some((target.clone(), of_backend(target)?))).collect();
        Self {
            // Each has a target, and a place or a rule for it.
            has_access: !config.access.is_empty(),
            of_backends,
            of_places,
            responses: config
                .routes
                .responses
                .iter()
                .map(|(name, one)| (name.clone(), one.clone()))
                .collect(),
            table,
            keys,
            limiters,
            clusters,
            of_rules,
        }
    }

    /// Who serves it. `None`: nobody, by mistake.
    pub(super) fn cluster(&self, target: &BackendTarget) -> Option<&Arc<Cluster>> {
        self.clusters.get(target)
    }

    /// All that are served from.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// What is decided about requests that get this rule.
    pub(super) fn policies(&self, rule: &Arc<HttpRule>) -> Option<&Arc<Policies>> {
        self.of_rules.get(&key(rule))
    }

    /// The same of requests that come in there and have no rule.
    pub(super) fn policies_at(&self, place: &TargetRef) -> Option<&Arc<Policies>> {
        self.of_places.get(place)
    }

    /// The same of requests that go there.
    pub(super) fn policies_of(&self, backend: &BackendTarget) -> Option<&Arc<Policies>> {
        self.of_backends.get(backend)
    }

    /// Requests that come in there must be asked who asks.
    pub(super) fn is_guarded(&self, place: &TargetRef, set: Option<&RouteSet>) -> bool {
        let guarded = |policies: Option<&Arc<Policies>>| policies.is_some_and(|one| one.has_access());
        let of_rule = |rule: &Arc<HttpRule>| {
            guarded(self.policies(rule))
                || rule.backends.iter().any(|one| guarded(self.policies_of(&one.target)))
        };
        guarded(self.policies_at(place)) || set.is_some_and(|set| set.rules().any(|(_, rule)| of_rule(rule)))
    }

    /// A fixed answer.
    pub(super) fn response(&self, name: &str) -> Option<&DirectResponse> {
        self.responses.get(name)
    }
}

fn key(rule: &Arc<HttpRule>) -> usize {
    Arc::as_ptr(rule).addr()
}

/// `NAMESPACE/NAME/RULE`
fn route_of(label: &str) -> ObjectName {
    let mut parts = label.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    ObjectName { namespace: next(), name: next() }
}

/// What policies are about.
fn targets(config: &Config) -> impl Iterator<Item = TargetRef> {
    let traffic = config.traffic.iter().flat_map(|policy| policy.targets.iter().cloned());
    let access = config.access.iter().flat_map(|policy| policy.targets.iter().cloned());
    traffic.chain(access)
}

/// A port of a Service: its ready endpoints, or its cluster IP where the files do not list any, so that the
/// node does what it would do without us.
fn of_service(
    config: &Config,
    service: &config::route::Service,
    port: &config::route::ServicePort,
) -> Cluster {
    let spec = config.traffic_of(&[TargetRef::Service(service.name.clone())]);
    let at = |address: std::net::IpAddr, port: u16, zone: Option<String>| config::Endpoint {
        target: Target::Address((address, port).into()),
        weight: 1,
        zone,
    };
    let ready = service.endpoints_of(port).filter(|endpoint| endpoint.ready);
    let mut endpoints: Vec<_> =
        ready.map(|endpoint| at(endpoint.address, endpoint.port, endpoint.zone.clone())).collect();
    if endpoints.is_empty() && service.endpoints.is_empty() {
        endpoints = service.cluster_ips.iter().map(|ip| at(*ip, port.port, None)).collect();
    }
    let protocol = match port.app_protocol.as_deref() {
        Some("http") => Protocol::Http1,
        Some("kubernetes.io/h2c" | "http2") => Protocol::Http2,
        Some("grpc") => Protocol::Grpc,
        Some("tcp") => Protocol::Tcp,
        _ => Protocol::Auto,
    };
    Cluster::of(format!("{}:{}", service.name, port.port).into(), protocol, None, endpoints, spec)
}
