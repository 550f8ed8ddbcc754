//! The endpoints of an explicit listener's backend.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::names::{Known, LookUpError};
use crate::config::{self, Target};
use crate::net::addrs::UpstreamAddr;

/// A backend, and whose turn it is.
pub struct Backend {
    declared: config::Backend,
    turn: AtomicU64,
    /// What is known of each endpoint's name.
    names: Vec<Arc<DnsName>>,
}

/// A name that is looked up when somebody needs it.
#[derive(Default)]
struct DnsName {
    /// Who holds it looks the name up.
    known: Arc<tokio::sync::Mutex<Known>>,
    latest: Mutex<Latest>,
}

/// The first address of a name, if it was ever found, and until when nobody need look again.
#[derive(Clone, Copy, Default)]
struct Latest {
    address: Option<IpAddr>,
    until: Option<Instant>,
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
    /// Bytes are copied between TCP sockets.
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
        let names = backend.endpoints.iter().map(|_| Arc::default()).collect();
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

    /// The first address of a name, by the last answer. While that is renewed it counts; only who has none waits.
    async fn look_up(
        &self,
        dns: &config::DnsPort,
        of_name: &Arc<DnsName>,
    ) -> Result<UpstreamAddr, PickError> {
        let (backend, name) = (self.declared.name.clone(), dns.name.clone());
        let at = |address: IpAddr| UpstreamAddr((address, dns.port).into());
        let latest = *of_name.latest();
        if let Some(address) = latest.address {
            if !latest.holds()
                && let Ok(mut known) = Arc::clone(&of_name.known).try_lock_owned()
            {
                let of_name = Arc::clone(of_name);
                tokio::spawn(async move {
                    if let Err(error) = of_name.renew(&mut known, &name).await {
                        tracing::warn!(%backend, %name, %error, "look up");
                    }
                });
            }
            return Ok(at(address));
        }
        let mut known = of_name.known.lock().await;
        // Who waited for another's look-up has its answer.
        let latest = *of_name.latest();
        match latest.address {
            Some(address) => return Ok(at(address)),
            None if latest.holds() => return Err(PickError::NotFound { backend, name }),
            None => {}
        }
        match of_name.renew(&mut known, &name).await {
            Ok(Some(address)) => Ok(at(address)),
            Ok(None) => Err(PickError::NotFound { backend, name }),
            Err(cause) => Err(PickError::Lookup { backend, name, cause }),
        }
    }

    /// The same is said of both.
    pub fn is_like(&self, other: &Self) -> bool {
        self.declared == other.declared
    }
}

impl DnsName {
    async fn renew(&self, known: &mut Known, name: &str) -> Result<Option<IpAddr>, LookUpError> {
        let (holds, looked_up) = known.renew(name).await;
        let address = known.addresses.first().copied();
        *self.latest() = Latest { address, until: Some(Instant::now() + holds) };
        looked_up.map(|()| address)
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn holds(&self) -> bool {
        self.until.is_some_and(|until| until > Instant::now())
    }
}
