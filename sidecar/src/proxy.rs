//! The proxy: binds its listeners, serves them, stops.

use std::sync::Arc;

use sidecar_common::flow::Role;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout};

use crate::bypass::Current;
use crate::config::{Config, Mode, Ports};
use crate::connection::{self, Front, Ingress, Shared};
use crate::drain::Drain;
use crate::http;
use crate::net::listen::{self, ListenError, Scope};
use crate::observe::programs::CgroupNames;
use crate::observe::table::ConnectionTable;
use crate::settings::Latest;
use crate::workers::Workers;

/// How long listeners stay that the kernel half sends nothing to any more: a SYN that it sent may be answered once more.
const LINGER: Duration = Duration::from_secs(4);
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

/// A kernel half came, or went, while the proxy serves.
pub enum Steering {
    /// It listens now: listeners are to be announced to it. The answer says whether it heard of all.
    Begins(oneshot::Sender<bool>),
    /// It sends nothing more.
    Ends,
}

/// What a listener's loops work with.
#[derive(Clone)]
struct Loops {
    shared: Arc<Shared>,
    workers: Arc<Workers>,
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
    /// own, which [`Drain::finish`] waits for. `steering`: kernel halves that come later than the listeners.
    #[expect(clippy::too_many_arguments, reason = "what an instance is made of")]
    pub async fn serve(
        self,
        config: &Config,
        table: ConnectionTable,
        drain: Drain,
        cgroups: CgroupNames,
        ladder: Current,
        workers: Arc<Workers>,
        http: Arc<http::Common>,
        settings: Arc<Latest>,
        mut steering: mpsc::Receiver<Steering>,
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
        let shown = Loops { shared, workers };
        let mut loops = JoinSet::new();
        let mut steered = Vec::new();
        // Those listen until the drain.
        let (_first, until_drained) = watch::channel(());
        for (listener, ingress) in self.listeners {
            if let (Ingress::Outbound | Ingress::Inbound, Ok(address)) = (&ingress, listener.local_addr()) {
                steered.push((address, ingress.clone()));
            }
            loops.spawn(shown.clone().listen(listener, ingress, until_drained.clone()));
        }
        // Those for a kernel half that came later, until it goes: this is dropped then.
        let mut later = None;
        loop {
            let change = tokio::select! {
                ended = loops.join_next() => match ended {
                    None => break,
                    Some(ended) => {
                        if let Err(error) = ended.unwrap_or_else(|panic| Err(panic.into())) {
                            tracing::error!("a listener ended: {error:#}");
                        }
                        continue;
                    }
                },
                Some(change) = steering.recv() => change,
            };
            // Handshakes that were under way end at the old ones.
            if let Some(until_told) = later.take() {
                tokio::spawn(async move {
                    tokio::time::sleep(LINGER).await;
                    drop::<watch::Sender<()>>(until_told);
                });
            }
            if let Steering::Begins(answer) = change {
                let (until_told, told) = watch::channel(());
                later = Some(until_told);
                let role = |ingress: &Ingress| ingress.role(shown.shared.mode);
                let mut heard = true;
                for (address, ingress) in &steered {
                    match listen::sibling(*address, "once more", role(ingress)) {
                        Ok(sibling) => {
                            heard &= sibling.heard;
                            let listening =
                                shown.clone().listen(sibling.listener, ingress.clone(), told.clone());
                            loops.spawn(listening);
                        }
                        Err(error) => {
                            tracing::error!(%error, "what the kernel half is to send has no listener");
                            heard = false;
                        }
                    }
                }
                // Whoever asked may be gone.
                let _ = answer.send(heard);
            }
        }
    }
}

impl Loops {
    /// Accepts from a listener, and from as many siblings of it as there are further threads, until the drain starts or
    /// the other end of `until` is dropped.
    async fn listen(
        self,
        listener: TcpListener,
        ingress: Ingress,
        until: watch::Receiver<()>,
    ) -> anyhow::Result<()> {
        let Self { shared, workers } = self;
        let address = listener.local_addr()?;
        let mut first = Some(listener.into_std()?);
        let role = ingress.role(shared.mode);
        let mut bound = Vec::new();
        let accepting = |_| -> anyhow::Result<_> {
            let listener = match first.take() {
                Some(first) => first,
                None => match listen::sibling(address, "once more", role) {
                    Ok(sibling) => sibling.listener.into_std()?,
                    Err(error) => {
                        tracing::warn!(%error, "fewer threads serve it");
                        return Ok(None);
                    }
                },
            };
            bound.push(listener.try_clone()?);
            let listener = TcpListener::from_std(listener)?;
            Ok(Some(accept_until(listener, ingress.clone(), Arc::clone(&shared), until.clone())))
        };
        let mut accepting = workers.each(accepting)?;
        // All at once: the kernel spreads connections over those that are left.
        over(&shared, until.clone()).await;
        if shared.mode == Mode::Ebpf {
            bound.iter().for_each(listen::retire);
        }
        drop(bound);
        while let Some(ended) = accepting.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// The drain has started, or the other end of `until` is dropped.
async fn over(shared: &Shared, mut until: watch::Receiver<()>) {
    tokio::select! {
        () = shared.drain.started() => {}
        // Nothing is ever sent.
        _ = until.changed() => {}
    }
}

/// The role of listeners that are never steered.
pub fn own_role(config: &Config) -> Option<Role> {
    (config.interception.mode == Mode::Ebpf).then_some(Role::Own)
}

/// Accepts connections; when that is to end, and the listeners are retired, accepts those that wait already.
async fn accept_until(
    listener: TcpListener,
    ingress: Ingress,
    shared: Arc<Shared>,
    until: watch::Receiver<()>,
) {
    let mut ends = std::pin::pin!(over(&shared, until));
    loop {
        tokio::select! {
            (stream, peer) = listen::accept(&listener) => admit(&shared, stream, peer, &ingress),
            () = &mut ends => break,
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
