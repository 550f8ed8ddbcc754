//! Hosts of requests: without their port, and the names of Services.

use std::collections::HashMap;

use crate::config::{DEFAULT_NAMESPACE, ObjectName};

/// The longest name that DNS has.
const MAX_NAME: usize = 253;

/// Services by the names under which a cluster's DNS knows them.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceNames(HashMap<Box<[u8]>, ObjectName>);

/// `Host` or `:authority` without its port.
pub fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

// === impl ServiceNames ===

impl ServiceNames {
    /// The names of these Services, which are sorted.
    ///
    /// A short name is looked up in the namespace of who asks, which is not known here: it is that of the default
    /// namespace, or of the only Service that has it.
    pub(super) fn new<'a>(services: impl Iterator<Item = &'a ObjectName>) -> Self {
        let mut names: HashMap<Box<[u8]>, ObjectName> = HashMap::new();
        let mut short: HashMap<&str, Option<&ObjectName>> = HashMap::new();
        for service in services {
            let ObjectName { namespace, name } = service;
            for ending in ["", ".svc", ".svc.cluster.local"] {
                let key = format!("{name}.{namespace}{ending}").into_bytes();
                names.entry(key.into()).or_insert_with(|| service.clone());
            }
            let only = short.entry(name).and_modify(|other| *other = None).or_insert(Some(service));
            if namespace == DEFAULT_NAMESPACE {
                *only = Some(service);
            }
        }
        for (name, service) in short {
            if let Some(service) = service {
                names.entry(name.as_bytes().into()).or_insert_with(|| service.clone());
            }
        }
        Self(names)
    }

    /// The Service that this host, with or without a port, names.
    pub(super) fn get(&self, host: &str) -> Option<&ObjectName> {
        let name = without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
        // On the stack: this is asked for each request.
        let mut lower = [0; MAX_NAME];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.0.get(&*lower)
    }
}
