//! Where connections go that are not requests: by TCPRoute and TLSRoute.

use std::sync::Arc;

use hyper::HeaderMap;

use super::Common;
use crate::config::TargetRef;
use crate::connection::{Accepted, Ingress};
use crate::net::addrs::UpstreamAddr;
use crate::observe::close_reason::CloseReason;
use crate::route::{TcpRules, weights};
use crate::upstream::cluster::{At, Chosen};

/// Where routes send a connection.
pub struct Sent {
    /// `NAMESPACE/NAME` of the route or Service.
    pub route: Arc<str>,
    /// The endpoint.
    pub to: UpstreamAddr,
}

impl Common {
    /// Requests that come in there are asked who asks: what is no request cannot be, and must not pass. By whatever name
    /// a backend is reached, it counts.
    pub fn is_guarded(&self, accepted: &Accepted) -> bool {
        let plan = self.plan();
        if !plan.has_access {
            return false;
        }
        match (&accepted.ingress, accepted.meant_for()) {
            (Ingress::Listener(front), _) => {
                let forward =
                    front.forward.as_ref().map(|backend| TargetRef::Backend(backend.name().to_owned()));
                forward.is_some_and(|backend| plan.is_guarded(&backend, None))
                    || plan.is_guarded(
                        &TargetRef::Listener(front.name.clone()),
                        plan.table.of_listener(&front.name),
                    )
            }
            (Ingress::Inbound, Some(address)) => {
                let port = address.port();
                plan.is_guarded(&TargetRef::Inbound(port), plan.table.of_inbound(port))
            }
            (Ingress::Outbound, Some(address)) => plan
                .table
                .of_outbound(None, address)
                .is_some_and(|set| plan.is_guarded(set.place(), Some(set))),
            (_, None) => false,
        }
    }

    /// Where a connection goes. `None`: no route is for it.
    pub fn connection(&self, accepted: &Accepted) -> Option<Result<Sent, CloseReason>> {
        let plan = self.plan();
        let table = &plan.table;
        let tls = accepted.tls.get();
        let name = tls.and_then(|name| name.as_deref());
        let (by_name, by_port) = match (&accepted.ingress, accepted.meant_for()) {
            (Ingress::Listener(front), _) => {
                (table.of_listener_tls(&front.name), table.of_listener_tcp(&front.name))
            }
            (Ingress::Inbound, Some(address)) => {
                (table.of_inbound_tls(address.port()), table.of_inbound_tcp(address.port()))
            }
            (Ingress::Outbound, Some(address)) => {
                (table.of_outbound_tls(name, address), table.of_outbound_tcp(address))
            }
            (_, None) => return None,
        };
        let rules = match by_name.filter(|_| tls.is_some()) {
            // A name that no route has goes nowhere (TLSRoute, `hostnames`).
            Some(rules) => rules.find(name).ok_or(CloseReason::ConnectFailed),
            None => Ok(by_port?),
        };
        Some(rules.and_then(|rules: &TcpRules| {
            let backend = weights::pick(&rules.backends, fastrand::u32(..));
            let cluster = backend.and_then(|backend| plan.cluster(&backend.target));
            let chosen = cluster.and_then(|cluster| cluster.pick(&HeaderMap::new(), accepted.peer, &[]));
            let is_secret = |chosen: &Chosen| chosen.endpoint.tls.is_some();
            if let Some(cluster) = cluster.filter(|_| chosen.as_ref().is_some_and(is_secret)) {
                tracing::info!(id = %accepted.id, backend = %cluster.name, "only requests are sent over TLS");
            }
            let clear = chosen.filter(|chosen| !is_secret(chosen));
            match clear.map(|chosen| chosen.endpoint.at.clone()) {
                Some(At::Tcp(address)) => {
                    Ok(Sent { route: Arc::clone(&rules.route), to: UpstreamAddr(address) })
                }
                // Bytes are copied between TCP sockets.
                Some(At::Unix(_)) | None => Err(CloseReason::ConnectFailed),
            }
        }))
    }
}
