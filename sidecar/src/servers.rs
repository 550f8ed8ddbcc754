//! The servers around the proxy: admin, health, metrics, and the control socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::admin::endpoints::AdminState;
use crate::admin::health::Health;
use crate::admin::metrics::Scrape;
use crate::admin::readiness::Readiness;
use crate::admin::serve::{Limits, bind_unix, serve};
use crate::config::{Config, Ports};
use crate::instance::CONTROL_SOCKET;
use crate::net::listen::{self, ListenError};
use crate::observe::metrics::Metrics;
use crate::proxy::own_role;

/// The ports that an instance listens on. 0: not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortsInUse {
    /// Captured outbound connections.
    pub outbound: u16,
    /// Steered inbound connections.
    pub inbound: u16,
    /// The admin service.
    pub admin: u16,
    /// Metrics.
    pub metrics: u16,
    /// Health.
    pub health: u16,
}

/// Bound and not served yet.
pub struct Servers {
    admin: TcpListener,
    metrics: TcpListener,
    health: TcpListener,
}

impl Servers {
    /// Binds: admin on loopback; metrics and health on all addresses where the configuration fixes their ports, since a
    /// kubelet and a Prometheus come from outside, and on loopback otherwise.
    pub fn bind(config: &Config, ports: Ports) -> Result<Self, ListenError> {
        let role = own_role(config);
        let loopback = |port: Option<u16>, what| {
            listen::one(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.unwrap_or_default()), what, role)
        };
        let reachable = |port: Option<u16>, what| match port {
            Some(port) => listen::one(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), what, role),
            None => loopback(None, what),
        };
        Ok(Self {
            admin: loopback(ports.admin, "admin")?,
            metrics: reachable(ports.metrics, "metrics")?,
            health: reachable(ports.health, "health")?,
        })
    }

    /// Where they listen.
    pub fn ports(&self) -> PortsInUse {
        let port = |listener: &TcpListener| listener.local_addr().map_or(0, |local| local.port());
        PortsInUse {
            admin: port(&self.admin),
            metrics: port(&self.metrics),
            health: port(&self.health),
            ..PortsInUse::default()
        }
    }

    /// Serves until the returned set is dropped. The control socket is left out where it cannot be made.
    pub fn serve(
        self,
        state: &AdminState,
        metrics: Metrics,
        readiness: Readiness,
        directory: Option<&Path>,
    ) -> JoinSet<()> {
        let mut serving = JoinSet::new();
        serving.spawn(serve(self.admin, Limits::default(), state.clone()));
        serving.spawn(serve(self.metrics, Limits::default(), Scrape(metrics)));
        serving.spawn(serve(self.health, Limits::default(), Health(readiness)));
        if let Some(path) = directory.map(|directory| directory.join(CONTROL_SOCKET)) {
            match bind_unix(&path) {
                Ok(listener) => drop(serving.spawn(serve(listener, Limits::default(), state.clone()))),
                Err(error) => tracing::warn!(path = %path.display(), %error, "no control socket"),
            }
        }
        serving
    }
}
