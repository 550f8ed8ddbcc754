//! The endpoints of an explicit listener's backend.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{self, Target};
use crate::net::addrs::UpstreamAddr;

/// A backend, and whose turn it is.
pub struct Backend {
    backend: config::Backend,
    turn: AtomicU64,
}

/// No endpoint can be used.
#[derive(Debug, thiserror::Error)]
pub enum PickError {
    /// A name was not found.
    #[error("backend {backend}: look up {name}: {cause}")]
    Lookup {
        /// The backend.
        backend: String,
        /// The name.
        name: String,
        /// Why.
        cause: io::Error,
    },
    /// Unix sockets come with the HTTP data plane.
    #[error("backend {0}: a Unix socket cannot be the upstream of a TCP listener")]
    UnixSocket(String),
    /// All weights are zero, which validation refuses.
    #[error("backend {0}: no endpoint has a weight")]
    Empty(String),
}

impl Backend {
    /// A backend whose first endpoint is next.
    pub fn new(backend: config::Backend) -> Self {
        Self { backend, turn: AtomicU64::new(0) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.backend.name
    }

    /// What its endpoints speak.
    pub fn protocol(&self) -> config::Protocol {
        self.backend.protocol
    }

    /// The next endpoint's address: each has as many turns in a row as its weight says. Cancel safe.
    pub async fn pick(&self) -> Result<UpstreamAddr, PickError> {
        let name = || self.backend.name.clone();
        let endpoints = &self.backend.endpoints;
        let total: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut left = turn.checked_rem(total).ok_or_else(|| PickError::Empty(name()))?;
        let chosen = endpoints.iter().find(|endpoint| {
            let weight = u64::from(endpoint.weight);
            let mine = left < weight;
            left = left.saturating_sub(weight);
            mine
        });
        match chosen.map(|endpoint| &endpoint.target) {
            Some(Target::Address(address)) => Ok(UpstreamAddr(*address)),
            Some(Target::Dns(dns)) => {
                let failed = |cause| PickError::Lookup { backend: name(), name: dns.name.clone(), cause };
                let mut found =
                    tokio::net::lookup_host((dns.name.as_str(), dns.port)).await.map_err(failed)?;
                let none = || failed(io::Error::new(io::ErrorKind::NotFound, "no address"));
                found.next().map(UpstreamAddr).ok_or_else(none)
            }
            Some(Target::Unix(_)) => Err(PickError::UnixSocket(name())),
            None => Err(PickError::Empty(name())),
        }
    }
}
