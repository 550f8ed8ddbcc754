//! The rules of one place for connections.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::config::ObjectName;
use crate::config::route::{BackendRef, BackendTarget, Hostname, TcpRoute, TlsRoute};

/// Who gets the connections of one place.
#[derive(Clone, PartialEq, Debug)]
pub struct TcpRules {
    /// `NAMESPACE/NAME` of the route or Service.
    pub route: Arc<str>,
    /// By weight; empty, or all of weight 0: nobody, the connection is closed.
    pub backends: Vec<BackendRef>,
}

/// Who gets the TLS connections of one place, by the server's name.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TlsRules {
    /// By precedence: the first that matches counts.
    entries: Vec<(Option<Hostname>, Arc<TcpRules>)>,
}

// === impl TcpRules ===

impl TcpRules {
    /// The first route by name: there is nothing in a connection by which another could be chosen.
    pub(super) fn new<'a>(routes: impl Iterator<Item = &'a TcpRoute>) -> Option<Self> {
        let route = routes.min_by_key(|route| route.name.to_string())?;
        Some(Self { route: route.name.to_string().into(), backends: route.backends.clone() })
    }

    /// All connections to this port of a Service.
    pub(super) fn of_service(name: &ObjectName, port: u16) -> Self {
        let target = BackendTarget::Service { name: name.clone(), port };
        let backends = vec![BackendRef { target, weight: 1, filters: Vec::new() }];
        Self { route: name.to_string().into(), backends }
    }
}

// === impl TlsRules ===

impl TlsRules {
    /// The rules of these routes. `None`: there are no routes.
    pub(super) fn new<'a>(routes: impl Iterator<Item = &'a TlsRoute>) -> Option<Self> {
        let mut routes: Vec<&TlsRoute> = routes.collect();
        routes.sort_by_cached_key(|route| route.name.to_string());
        let mut entries = Vec::new();
        for route in routes {
            let rules =
                Arc::new(TcpRules { route: route.name.to_string().into(), backends: route.backends.clone() });
            if route.hostnames.is_empty() {
                entries.push((None, Arc::clone(&rules)));
            }
            entries.extend(route.hostnames.iter().map(|name| (Some(name.clone()), Arc::clone(&rules))));
        }
        entries.sort_by_key(|(name, _)| Reverse(name.as_ref().map(Hostname::specificity)));
        (!entries.is_empty()).then_some(Self { entries })
    }

    /// The rules for a client that asks for this server. `None`: no route has one, the connection is closed.
    pub fn find(&self, server_name: Option<&str>) -> Option<&TcpRules> {
        let fits = |name: &Hostname| server_name.is_some_and(|server| name.matches(server));
        self.entries.iter().find(|(name, _)| name.as_ref().is_none_or(fits)).map(|(_, rules)| &**rules)
    }
}
