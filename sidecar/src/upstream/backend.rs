//! The endpoints of an explicit listener's backend.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::names::{Known, LookUpError};
use crate::config::{self, Target};
use crate::net::addrs::UpstreamAddr;

/// A backend, and whose turn it is.
pub struct Backend {
    declared: config::Backend,
    turn: AtomicU64,
    /// What is known of each endpoint's name, and until when. Held while it is looked up: others wait for that.
    names: Vec<Mutex<(Known, Option<Instant>)>>,
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
        cause: LookUpError,
    },
    /// A name was not found the last time, and it is too soon to ask again.
    #[error("backend {backend}: {name} was not found")]
    NotFound {
        /// The backend.
        backend: String,
        /// The name.
        name: String,
    },
    /// Unix sockets come with the HTTP data plane.
    #[error("backend {0}: a Unix socket cannot be the upstream of a TCP listener")]
    UnixSocket(String),
    /// Only requests are sent over TLS.
    #[error("backend {0}: what is no request cannot be sent over TLS")]
    Tls(String),
    /// All weights are zero, which validation refuses.
    #[error("backend {0}: no endpoint has a weight")]
    Empty(String),
}

impl Backend {
    /// A backend whose first endpoint is next.
    pub fn new(backend: config::Backend) -> Self {
        let names = backend.endpoints.iter().map(|_| Mutex::default()).collect();
        Self { declared: backend, turn: AtomicU64::new(0), names }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.declared.name
    }

    /// What its endpoints speak.
    pub fn protocol(&self) -> config::Protocol {
        self.declared.protocol
    }

    /// The next endpoint's address: each has as many turns in a row as its weight says. Cancel safe.
    pub async fn pick(&self) -> Result<UpstreamAddr, PickError> {
        let name = || self.declared.name.clone();
        if self.declared.tls.is_some() {
            return Err(PickError::Tls(name()));
        }
        let endpoints = &self.declared.endpoints;
        let total: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut left = turn.checked_rem(total).ok_or_else(|| PickError::Empty(name()))?;
        let chosen = endpoints.iter().zip(&self.names).find(|(endpoint, _)| {
            let weight = u64::from(endpoint.weight);
            let mine = left < weight;
            left = left.saturating_sub(weight);
            mine
        });
        let Some((endpoint, of_name)) = chosen else { return Err(PickError::Empty(name())) };
        match &endpoint.target {
            Target::Address(address) => Ok(UpstreamAddr(*address)),
            Target::Dns(dns) => self.look_up(dns, of_name).await,
            Target::Unix(_) => Err(PickError::UnixSocket(name())),
        }
    }

    /// The first address of a name, by the last answer if that still holds or there is none.
    async fn look_up(
        &self,
        dns: &config::DnsPort,
        of_name: &Mutex<(Known, Option<Instant>)>,
    ) -> Result<UpstreamAddr, PickError> {
        let (backend, name) = (self.declared.name.clone(), dns.name.clone());
        let mut of_name = of_name.lock().await;
        let (known, until) = &mut *of_name;
        let mut cause = None;
        if until.is_none_or(|until| until <= Instant::now()) {
            let (holds, looked_up) = known.renew(&dns.name).await;
            *until = Some(Instant::now() + holds);
            cause = looked_up.err();
        }
        match (known.addresses.first(), cause) {
            (Some(address), _) => Ok(UpstreamAddr((*address, dns.port).into())),
            (None, Some(cause)) => Err(PickError::Lookup { backend, name, cause }),
            (None, None) => Err(PickError::NotFound { backend, name }),
        }
    }
}
