//! The proxy: binds its listeners, serves them, stops.

use std::sync::Arc;

use sidecar_common::flow::Role;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout};

use crate::bypass::Ladder;
use crate::config::{Config, Mode, Ports};
use crate::connection::{self, Front, Ingress, Shared};
use crate::drain::Drain;
use crate::http;
use crate::net::listen::{self, ListenError, Scope};
use crate::observe::programs::CgroupNames;
use crate::observe::table::ConnectionTable;
use crate::settings::Latest;
use crate::workers::Workers;

/// How long a listener is emptied at most: one that cannot be retired is still being connected to.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a retired listener's queue must be quiet before it is closed: handshakes that were under way end within
/// it.
const QUIET: Duration = Duration::from_millis(50);

/// Listeners that are bound and not served yet. What connects waits in their queues.
pub struct Bound {
    /// Where captured outbound connections come in; 0: nowhere.
    pub outbound_port: u16,
    /// Where steered inbound connections come in; 0: nowhere.
    pub inbound_port: u16,
    /// The kernel half knows the listeners, or none is needed.
    pub armed: bool,
    listeners: Vec<(TcpListener, Ingress)>,
}

impl Bound {
    /// Binds the listeners for captured connections and the explicit ones. With the kernel half armed for this
    /// process, binding is what turns capturing on: the listeners register themselves.
    pub fn bind(config: &Config, ports: Ports) -> Result<Self, ListenError> {
        let mut bound = Self { outbound_port: 0, inbound_port: 0, armed: true, listeners: Vec::new() };
        let mode = config.interception.mode;
        let inbound_scope = match mode {
            Mode::Ebpf => Some(Scope::Loopback),
            Mode::Iptables => Some(Scope::All),
            Mode::None => None,
        };
        if let Some(scope) = inbound_scope {
            bound.inbound_port =
                bound.pair(scope, ports.inbound.unwrap_or_default(), "inbound", mode, &Ingress::Inbound)?;
            bound.outbound_port = bound.pair(
                Scope::Loopback,
                ports.outbound.unwrap_or_default(),
                "outbound",
                mode,
                &Ingress::Outbound,
            )?;
        }
        if !bound.armed {
            tracing::warn!(
                "the kernel half does not know this process: is it armed, for this cgroup and user?"
            );
        }
        for listener in &config.listeners {
            let socket = listen::one(listener.address, "an explicit listener", own_role(config))?;
            let front = Arc::new(Front::new(listener, config));
            bound.listeners.push((socket, Ingress::Listener(front)));
        }
        Ok(bound)
    }

    fn pair(
        &mut self,
        scope: Scope,
        port: u16,
        what: &'static str,
        mode: Mode,
        ingress: &Ingress,
    ) -> Result<u16, ListenError> {
        let sockets = listen::pair(scope, port, what, ingress.role(mode))?;
        let port = sockets
            .first()
            .and_then(|first| first.listener.local_addr().ok())
            .map_or(0, |local| local.port());
        for socket in sockets {
            self.armed &= socket.heard;
            self.listeners.push((socket.listener, ingress.clone()));
        }
        Ok(port)
    }

    /// Serves until the drain starts; returns when the last listener is closed. Connections go on in tasks of their
    /// own, which [`Drain::finish`] waits for.
    #[expect(clippy::too_many_arguments, reason = "what an instance is made of")]
    pub async fn serve(
        self,
        config: &Config,
        table: ConnectionTable,
        drain: Drain,
        cgroups: CgroupNames,
        ladder: Result<Arc<Ladder>, Arc<str>>,
        workers: Arc<Workers>,
        http: Arc<http::Common>,
        settings: Arc<Latest>,
    ) {
        let shared = Arc::new(Shared {
            mode: config.interception.mode,
            settings,
            table,
            drain,
            own_ports: [self.outbound_port, self.inbound_port],
            cgroups,
            ladder,
            http,
        });
        let mut loops = JoinSet::new();
        for (listener, ingress) in self.listeners {
            let (shared, workers) = (Arc::clone(&shared), Arc::clone(&workers));
            loops.spawn(async move {
                let address = listener.local_addr()?;
                let mut first = Some(listener.into_std()?);
                let role = ingress.role(shared.mode);
                let mut bound = Vec::new();
                let accepting = |_| -> anyhow::Result<_> {
                    let listener = match first.take() {
                        Some(first) => first,
                        None => match listen::sibling(address, "once more", role) {
                            Ok(sibling) => sibling,
                            Err(error) => {
                                tracing::warn!(%error, "fewer threads serve it");
                                return Ok(None);
                            }
                        },
                    };
                    bound.push(listener.try_clone()?);
                    let listener = TcpListener::from_std(listener)?;
                    Ok(Some(accept_until_drained(listener, ingress.clone(), Arc::clone(&shared))))
                };
                let mut accepting = workers.each(accepting)?;
                // All at once: the kernel spreads connections over those that are left.
                shared.drain.started().await;
                if shared.mode == Mode::Ebpf {
                    bound.iter().for_each(listen::retire);
                }
                drop(bound);
                while let Some(ended) = accepting.join_next().await {
                    ended?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = loops.join_next().await {
            if let Err(error) = ended.unwrap_or_else(|panic| Err(panic.into())) {
                tracing::error!("a listener ended: {error:#}");
            }
        }
    }
}

/// The role of listeners that are never steered.
pub fn own_role(config: &Config) -> Option<Role> {
    (config.interception.mode == Mode::Ebpf).then_some(Role::Own)
}

/// Accepts connections; when the drain starts, and the listeners are retired, accepts those that wait already.
async fn accept_until_drained(listener: TcpListener, ingress: Ingress, shared: Arc<Shared>) {
    loop {
        tokio::select! {
            (stream, peer) = listen::accept(&listener) => admit(&shared, stream, peer, &ingress),
            () = shared.drain.started() => break,
        }
    }
    let deadline = Instant::now() + SETTLE;
    while let Ok((stream, peer)) = timeout(QUIET, listen::accept(&listener)).await {
        admit(&shared, stream, peer, &ingress);
        if Instant::now() > deadline {
            break;
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: tokio::net::TcpStream, peer: std::net::SocketAddr, ingress: &Ingress) {
    match shared.drain.admit() {
        Some(permit) => {
            let serving = connection::serve(Arc::clone(shared), stream, peer, ingress.clone(), permit);
            drop(tokio::spawn(serving));
        }
        None => connection::refuse(shared, &stream, peer, ingress),
    }
}
