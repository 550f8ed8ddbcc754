//! All routes, by the place where they apply.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::hosts::ServiceNames;
use super::set::RouteSet;
use super::tcp::{TcpRules, TlsRules};
use crate::config::route::{HttpMatch, HttpRule, ParentRef, PathMatch, Routes, RuleTimeouts, Service};
use crate::config::{Config, ObjectName, TargetRef};

/// All routes, by the place where they apply.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    listeners: HashMap<String, Place>,
    inbound: HashMap<u16, Place>,
    services: HashMap<ObjectName, Ports>,
    names: ServiceNames,
    cluster_ips: HashMap<IpAddr, ObjectName>,
}

/// The rules of one place.
#[derive(Clone, Debug, Default)]
struct Place {
    http: Option<RouteSet>,
    tcp: Option<TcpRules>,
    tls: Option<TlsRules>,
}

/// The rules of a Service.
#[derive(Clone, Debug, Default)]
struct Ports {
    /// Of the ports that the Service or a route names.
    each: HashMap<u16, Place>,
    /// Of other ports, from routes that are for all.
    rest: Place,
}

// === impl RouteTable ===

impl RouteTable {
    /// Sorts the routes of a configuration.
    pub fn new(config: &Config) -> Self {
        let routes = &config.routes;
        let parents: BTreeSet<&ParentRef> = (routes.http.iter().flat_map(|route| &route.parents))
            .chain(routes.tcp.iter().flat_map(|route| &route.parents))
            .chain(routes.tls.iter().flat_map(|route| &route.parents))
            .collect();
        let mut table = Self::default();
        // The ports of each Service that have rules of their own.
        let mut ports: BTreeMap<&ObjectName, BTreeSet<u16>> = BTreeMap::new();
        for (name, service) in &routes.services {
            ports.entry(name).or_default().extend(service.ports.iter().map(|port| port.port));
            table.cluster_ips.extend(service.cluster_ips.iter().map(|ip| (*ip, name.clone())));
        }
        for parent in parents {
            match parent {
                ParentRef::Service { name, port } => ports.entry(name).or_default().extend(*port),
                ParentRef::Inbound { port } => {
                    table.inbound.insert(
                        *port,
                        Place::new(routes, TargetRef::Inbound(*port), |other| other == parent, false),
                    );
                }
                ParentRef::Listener { name } => {
                    table.listeners.insert(
                        name.clone(),
                        Place::new(routes, TargetRef::Listener(name.clone()), |other| other == parent, false),
                    );
                }
            }
        }
        table.names = ServiceNames::new(ports.keys().copied());
        for (name, numbers) in ports {
            let service = routes.services.get(name);
            table.services.insert(name.clone(), Ports::new(routes, name, service, &numbers));
        }
        table
    }

    /// The rules for requests at the explicit listener of this name. `None`: it has none.
    pub fn of_listener(&self, name: &str) -> Option<&RouteSet> {
        self.listeners.get(name)?.http.as_ref()
    }

    /// The rules for connections at the explicit listener of this name. `None`: it has none.
    pub fn of_listener_tcp(&self, name: &str) -> Option<&TcpRules> {
        self.listeners.get(name)?.tcp.as_ref()
    }

    /// The rules for TLS connections at the explicit listener of this name. `None`: it has none.
    pub fn of_listener_tls(&self, name: &str) -> Option<&TlsRules> {
        self.listeners.get(name)?.tls.as_ref()
    }

    /// The rules for requests that come in for this port of the workload. `None`: it has none.
    pub fn of_inbound(&self, port: u16) -> Option<&RouteSet> {
        self.inbound.get(&port)?.http.as_ref()
    }

    /// The rules for connections that come in for this port of the workload. `None`: it has none.
    pub fn of_inbound_tcp(&self, port: u16) -> Option<&TcpRules> {
        self.inbound.get(&port)?.tcp.as_ref()
    }

    /// The rules for TLS connections that come in for this port of the workload. `None`: it has none.
    pub fn of_inbound_tls(&self, port: u16) -> Option<&TlsRules> {
        self.inbound.get(&port)?.tls.as_ref()
    }

    /// The rules for requests that go out to `destination`: those of the Service that the host names, or else of the
    /// one whose cluster IP it is, for the destination's port. `None`: there is neither; the request passes through.
    pub fn of_outbound(&self, host: Option<&str>, destination: SocketAddr) -> Option<&RouteSet> {
        let named = host.and_then(|host| self.names.get(host));
        let rules = named.and_then(|name| self.place(name, destination.port())?.http.as_ref());
        rules.or_else(|| self.addressed(destination)?.http.as_ref())
    }

    /// The rules for connections that go out to a cluster IP. `None`: it is none; the connection passes through.
    pub fn of_outbound_tcp(&self, destination: SocketAddr) -> Option<&TcpRules> {
        self.addressed(destination)?.tcp.as_ref()
    }

    /// The rules for TLS connections that go out to `destination`: those of the Service whose cluster IP it is, or
    /// else of the one that the server's name is of. `None`: there is neither.
    pub fn of_outbound_tls(&self, server_name: Option<&str>, destination: SocketAddr) -> Option<&TlsRules> {
        let named = || {
            let name = self.names.get(server_name?)?;
            self.place(name, destination.port())?.tls.as_ref()
        };
        self.addressed(destination).and_then(|place| place.tls.as_ref()).or_else(named)
    }

    /// True when what comes in for this port of the workload has rules.
    pub fn has_inbound(&self, port: u16) -> bool {
        self.inbound.contains_key(&port)
    }

    /// True when what goes out may have rules, by its host or its address.
    pub fn has_outbound(&self) -> bool {
        !self.services.is_empty()
    }

    /// The rules of all places.
    pub fn sets(&self) -> impl Iterator<Item = &RouteSet> {
        let services = self.services.values().flat_map(|ports| ports.each.values().chain([&ports.rest]));
        let places = self.listeners.values().chain(self.inbound.values()).chain(services);
        places.filter_map(|place| place.http.as_ref())
    }

    fn addressed(&self, destination: SocketAddr) -> Option<&Place> {
        let name = self.cluster_ips.get(&destination.ip().to_canonical())?;
        self.place(name, destination.port())
    }

    fn place(&self, service: &ObjectName, port: u16) -> Option<&Place> {
        let ports = self.services.get(service)?;
        Some(ports.each.get(&port).unwrap_or(&ports.rest))
    }
}

// === impl Ports ===

impl Ports {
    /// The rules of the Service of this name for these ports. What has no route goes to the Service itself.
    fn new(routes: &Routes, name: &ObjectName, service: Option<&Service>, numbers: &BTreeSet<u16>) -> Self {
        let of = |number: Option<u16>| {
            let applies = |parent: &ParentRef| match parent {
                ParentRef::Service { name: other, port } => {
                    other == name && (port.is_none() || *port == number)
                }
                _ => false,
            };
            Place::new(routes, TargetRef::Service(name.clone()), applies, true)
        };
        let each = numbers.iter().map(|number| {
            let mut place = of(Some(*number));
            if service.is_some_and(|service| service.port(*number).is_some()) {
                place.tcp.get_or_insert_with(|| TcpRules::of_service(name, *number));
            }
            // A route of connections is one of the requests in them too.
            if place.http.is_none() {
                let here = TargetRef::Service(name.clone());
                place.http = place.tcp.as_ref().map(|rules| to_all(here, rules));
            }
            (*number, place)
        });
        Self { each: each.collect(), rest: of(None) }
    }
}

/// All requests go where connections would.
fn to_all(place: TargetRef, rules: &TcpRules) -> RouteSet {
    let path = PathMatch::Prefix("/".to_owned());
    let rule = HttpRule {
        name: None,
        matches: vec![HttpMatch { path, method: None, headers: Vec::new(), query: Vec::new() }],
        filters: Vec::new(),
        backends: rules.backends.clone(),
        timeouts: RuleTimeouts::default(),
        retry: None,
    };
    RouteSet::of_rule(place, &rules.route, rule)
}

// === impl Place ===

impl Place {
    /// The rules of the routes of which a parent `applies`. With `any_host`, host names do not count.
    fn new(routes: &Routes, place: TargetRef, applies: impl Fn(&ParentRef) -> bool, any_host: bool) -> Self {
        let here = |parents: &[ParentRef]| parents.iter().any(&applies);
        let http = RouteSet::new(place, routes.http.iter().filter(|route| here(&route.parents)), any_host);
        Self {
            http: (!http.is_empty()).then_some(http),
            tcp: TcpRules::new(routes.tcp.iter().filter(|route| here(&route.parents))),
            tls: TlsRules::new(routes.tls.iter().filter(|route| here(&route.parents))),
        }
    }
}
