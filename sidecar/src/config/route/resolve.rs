//! Looks up what the documents refer to, when all are read.

use std::collections::BTreeMap;

use super::model::{BackendRef, BackendTarget, Filter, Routes, Service};
use super::service::Slice;
use crate::config::ObjectName;
use crate::config::error::ConfigError;
use crate::config::model::{Backend, Unused};

/// How many endpoints a Service may have, each port of an address being one.
const MAX_ENDPOINTS: usize = 10_000;

/// Puts the endpoints of slices into their Services. Returns the slices that are of none, and what is wrong.
pub(super) fn join_slices(
    routes: &mut Routes,
    slices: Vec<(Slice, Unused)>,
) -> (Vec<Unused>, Vec<ConfigError>) {
    let (mut strays, mut errors) = (Vec::new(), Vec::new());
    for (slice, unused) in slices {
        match routes.services.get_mut(&slice.service) {
            Some(service) if service.endpoints.len() + slice.endpoints.len() > MAX_ENDPOINTS => {
                let why = format_args!(
                    "the Service {} has more than {MAX_ENDPOINTS} endpoints; leave some out",
                    service.name
                );
                errors.push(ConfigError::of_field(unused.location, "endpoints", why));
            }
            Some(service) => service.endpoints.extend(slice.endpoints),
            None => strays.push(unused),
        }
    }
    (strays, errors)
}

/// Makes references to backends that do not exist invalid.
pub(super) fn backends(routes: &mut Routes, backends: &BTreeMap<String, Backend>) {
    let Routes { http, tcp, tls, services, .. } = routes;
    for rule in http.iter_mut().flat_map(|route| &mut route.rules) {
        filters(&mut rule.filters, backends, services);
        for backend in &mut rule.backends {
            filters(&mut backend.filters, backends, services);
        }
        targets(&mut rule.backends, backends, services);
    }
    let connections = tcp
        .iter_mut()
        .map(|route| &mut route.backends)
        .chain(tls.iter_mut().map(|route| &mut route.backends));
    for refs in connections {
        targets(refs, backends, services);
    }
}

fn filters(
    filters: &mut [Filter],
    backends: &BTreeMap<String, Backend>,
    services: &BTreeMap<ObjectName, Service>,
) {
    for filter in filters {
        if let Filter::Mirror(mirror) = filter {
            target(&mut mirror.backend, backends, services);
        }
    }
}

fn targets(
    refs: &mut [BackendRef],
    backends: &BTreeMap<String, Backend>,
    services: &BTreeMap<ObjectName, Service>,
) {
    for reference in refs {
        target(&mut reference.target, backends, services);
    }
}

fn target(
    target: &mut BackendTarget,
    backends: &BTreeMap<String, Backend>,
    services: &BTreeMap<ObjectName, Service>,
) {
    let why = match &*target {
        BackendTarget::Backend(name) if !backends.contains_key(name) => {
            format!("there is no Backend {name:?}; add one")
        }
        BackendTarget::Service { name, port } => match services.get(name) {
            None => format!("there is no Service {name}; add one"),
            Some(service) if service.port(*port).is_none() => {
                format!("the Service {name} has no TCP port {port}; write one of its ports")
            }
            Some(_) => return,
        },
        BackendTarget::Backend(_) | BackendTarget::Invalid(_) => return,
    };
    *target = BackendTarget::Invalid(why);
}
