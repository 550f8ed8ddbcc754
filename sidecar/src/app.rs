//! A proxy with the servers around it: bound, then serving, then finished. `sidecar run` and `sidecar proxy` share it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::admin::endpoints::{AdminState, ControlCommand};
use crate::admin::readiness::{Condition, Readiness};
use crate::arm::Armed;
use crate::bpf::BpfError;
use crate::bpf::events::{self, Events};
use crate::bypass::{Current, Ladder};
use crate::cli::signals::Signals;
use crate::config::{Config, LogFormat, Ports};
use crate::drain::Drain;
use crate::host::cgroup::Hierarchy;
use crate::http;
use crate::kernel_view::{Asked, KernelView};
use crate::memory;
use crate::net::addrs::Direction;
use crate::net::listen::ListenError;
use crate::observe::access_log::{AccessLog, Format, OpenError};
use crate::observe::log::LogLevel;
use crate::observe::metrics::Metrics;
use crate::observe::programs::CgroupNames;
use crate::observe::table::{ConnectionTable, KernelEvent, PATIENCE};
use crate::probes::Probes;
use crate::proxy::{Bound, Steering};
use crate::reload::{Live, Source};
use crate::servers::{PortsInUse, Servers};
use crate::settings::Latest;
use crate::under_agent::{Channel, UnderAgent};
use crate::workers::Workers;

/// How many commands of the admin service may wait.
const CONTROL_QUEUE: usize = 4;
/// How long the access log has to take the last lines.
const FLUSH: Duration = Duration::from_secs(1);
/// How often what lost its other half is looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Bound to its ports, not serving yet.
pub struct App {
    bound: Bound,
    servers: Servers,
    table: ConnectionTable,
    metrics: Metrics,
    cgroups: CgroupNames,
    kernel: Option<(Events, KernelView)>,
    ladder: Current,
    agent: Option<Channel>,
}

/// Serving.
pub struct Running {
    drain: Drain,
    live: Live,
    readiness: Readiness,
    listening: JoinHandle<()>,
    /// Ends with this.
    servers: JoinSet<()>,
    control: tokio::sync::Mutex<mpsc::Receiver<ControlCommand>>,
    access_log: Option<AccessLog>,
    table: ConnectionTable,
    /// Their connections end with this.
    _workers: Arc<Workers>,
}

/// What could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The access log.
    #[error(transparent)]
    AccessLog(#[from] OpenError),
    /// The threads that serve.
    #[error("start a thread that serves connections")]
    Workers(#[source] std::io::Error),
    /// The socket that is asked for the kernel half's counters.
    #[error("make a socket to ask the kernel half with")]
    Counters(#[source] std::io::Error),
    /// The kernel half.
    #[error(transparent)]
    Bpf(#[from] BpfError),
}

// === impl App ===

impl App {
    /// Binds all ports; what connects waits.
    pub fn bind(
        config: &Config,
        ports: Ports,
        instance: &str,
        hierarchy: Option<&Hierarchy>,
    ) -> Result<Self, AppError> {
        let table = ConnectionTable::new(instance.to_owned(), config.limits.connections());
        let metrics = Metrics::new(table.clone());
        let ladder = Current::none("no kernel half that this process may ask");
        metrics.add(Box::new(ladder.meter()));
        Ok(Self {
            servers: Servers::bind(config, ports)?,
            bound: Bound::bind(config, ports)?,
            table,
            metrics,
            cgroups: CgroupNames::new(hierarchy.map(|hierarchy| hierarchy.root.clone())),
            kernel: None,
            ladder,
            agent: None,
        })
    }

    /// Counts what the kernel half says when it is asked, which may come later, and go.
    pub fn ask_for_counters(&self) -> Result<(), AppError> {
        self.metrics.add_bpf(Arc::new(Asked::new().map_err(AppError::Counters)?));
        Ok(())
    }

    /// Joins in what the kernel half tells. Needs the privilege to read its maps.
    pub fn observe(&mut self, armed: &mut Armed) -> Result<(), AppError> {
        let view = KernelView::new(armed.kernel.meters()?);
        self.metrics.add_bpf(Arc::new(view.clone()));
        self.kernel = Some((armed.kernel.events()?, view));
        Ok(())
    }

    /// Lets connections climb to the bypass, or says why they cannot.
    pub fn climb(&mut self, ladder: Result<Ladder, String>) {
        self.ladder.set(ladder);
    }

    /// The agent of the node is to arm the Pod, and tells by this channel.
    pub fn under_agent(&mut self, channel: Channel) {
        self.agent = Some(channel);
    }

    /// Finds cgroups by number.
    pub fn cgroups(&self) -> &CgroupNames {
        &self.cgroups
    }

    /// The ports it is bound to.
    pub fn ports(&self) -> PortsInUse {
        PortsInUse {
            outbound: self.bound.outbound_port,
            inbound: self.bound.inbound_port,
            ..self.servers.ports()
        }
    }

    /// Serves, and takes over what `source` has next. `directory`: where the control socket is made.
    pub fn serve(
        self,
        config: &Config,
        source: Source,
        log_level: LogLevel,
        directory: Option<&Path>,
    ) -> Result<Running, AppError> {
        let access_log = match config.access_log.format {
            LogFormat::Off => None,
            LogFormat::Json => Some(AccessLog::open(Format::Json, &config.access_log.path)?),
            LogFormat::Text => Some(AccessLog::open(Format::Text, &config.access_log.path)?),
        };
        if let Some(log) = &access_log {
            self.table.log_to(log.clone());
        }
        let (control_in, control) = mpsc::channel(CONTROL_QUEUE);
        let instance = self.table.instance();
        let http = http::Common::new(config, instance, self.metrics.requests(), access_log.clone());
        let http = Arc::new(http);
        self.metrics.add(Box::new(http::PlaneMetrics::new(&http)));
        let settings = Arc::new(Latest::new(config));
        let probes = Probes::new(Arc::clone(&http), instance, access_log.clone());
        self.metrics.add(Box::new(probes.counts()));
        probes.replace(config);
        let live = {
            let (http, settings) = (Arc::clone(&http), Arc::clone(&settings));
            Live::new(config.clone(), self.metrics.clone(), move |config| {
                http.replace(config);
                settings.replace(config);
                probes.replace(config);
            })
        };
        let shown = live.clone();
        let state = AdminState {
            table: self.table.clone(),
            config_json: Arc::new(move || shown.dump()),
            ladder: self.ladder.clone(),
            log_level,
            control: control_in,
        };
        let readiness =
            Readiness::new(&[Condition::ConfigLoaded, Condition::ListenersBound, Condition::Armed]);
        let ports = self.servers.ports();
        let mut servers = self.servers.serve(&state, self.metrics.clone(), readiness.clone(), directory);
        servers.spawn(source.follow(live.clone()));
        servers.spawn({
            let (http, table) = (Arc::clone(&http), self.table.clone());
            memory::tidy(move || http.rested() + table.opened())
        });
        let armed = self.bound.armed;
        let (steer, steering) = mpsc::channel::<Steering>(CONTROL_QUEUE);
        if let Some(channel) = self.agent {
            let under_agent = UnderAgent {
                interception: config.interception.clone(),
                limits: config.limits,
                ports: PortsInUse {
                    outbound: self.bound.outbound_port,
                    inbound: self.bound.inbound_port,
                    ..ports
                },
                table: self.table.clone(),
                ladder: self.ladder.clone(),
                readiness: readiness.clone(),
                steer,
            };
            servers.spawn(under_agent.serve(channel));
        } else if !armed {
            tracing::warn!(
                "the kernel half does not know this process: is it armed, for this cgroup and user?"
            );
        }
        let view = self.kernel.map(|(events, view)| {
            servers.spawn(join_events(events, self.table.clone(), self.cgroups.clone()));
            view
        });
        servers.spawn(sweep(self.table.clone(), view));
        let drain = Drain::new(u32::try_from(config.limits.connections()).unwrap_or(u32::MAX));
        let workers = Arc::new(Workers::start().map_err(AppError::Workers)?);
        let table = self.table.clone();
        let listening = {
            let (config, table, drain, cgroups) = (config.clone(), self.table, drain.clone(), self.cgroups);
            let (ladder, serving) = (self.ladder, Arc::clone(&workers));
            tokio::spawn(async move {
                self.bound
                    .serve(&config, table, drain, cgroups, ladder, serving, http, settings, steering)
                    .await;
            })
        };
        readiness.met(Condition::ConfigLoaded);
        readiness.met(Condition::ListenersBound);
        if armed {
            readiness.met(Condition::Armed);
        }
        // Reading the kernel's types takes many times what serving does.
        memory::give_back();
        Ok(Running {
            drain,
            live,
            readiness,
            listening,
            servers,
            control: control.into(),
            access_log,
            table,
            _workers: workers,
        })
    }
}

// === impl Running ===

impl Running {
    /// Resolves when a signal or the admin service asks this process to end.
    pub async fn until_told(&self, signals: &mut Signals) {
        tokio::select! {
            () = signals.end() => {}
            () = self.told_to_quit() => {}
        }
    }

    /// Resolves when the admin service asks this process to end; drains when it asks for that. Cancel safe.
    pub async fn told_to_quit(&self) {
        let mut control = self.control.lock().await;
        loop {
            match control.recv().await {
                Some(ControlCommand::Drain) => self.start_drain(),
                Some(ControlCommand::Quit) => return,
                None => std::future::pending().await,
            }
        }
    }

    /// A program has dialled somebody through it.
    pub fn has_been_used(&self) -> bool {
        self.table.totals().of(Direction::Outbound).opened > 0
    }

    /// The application has ended: no answer to it is worth waiting for.
    pub fn application_gone(&self) {
        self.drain.application_gone();
    }

    /// How long connections have to end by themselves.
    pub fn drain_time(&self) -> Duration {
        self.live.config().timeouts.drain
    }

    /// Takes no new connections, waits for those that are open as long as the drain time at most, and ends. Another
    /// signal ends the waiting.
    pub async fn finish(mut self, signals: &mut Signals) {
        self.start_drain();
        // What waits in the listeners' queues is accepted before they close.
        if let Err(error) = (&mut self.listening).await {
            tracing::error!(%error, "the listeners ended");
        }
        let hurry = tokio::select! {
            () = self.drain.finish(self.drain_time()) => false,
            () = signals.end() => true,
        };
        if hurry {
            self.drain.finish(Duration::ZERO).await;
        }
        // The kernel half's last words are still to come.
        tokio::time::sleep(2 * events::PERIOD).await;
        self.table.sweep(Instant::now() + PATIENCE);
        if let Some(log) = &self.access_log
            && timeout(FLUSH, log.flush()).await.is_err()
        {
            tracing::warn!("the access log's reader is too slow: its last lines are lost");
        }
        self.servers.shutdown().await;
    }

    fn start_drain(&self) {
        self.readiness.drain();
        self.drain.start();
    }
}

/// Each second: closes what lost its other half; after lost events, looks at the records themselves.
async fn sweep(table: ConnectionTable, view: Option<KernelView>) {
    let mut tick = tokio::time::interval(SWEEP);
    let mut lost_before = 0;
    loop {
        tick.tick().await;
        table.sweep(Instant::now());
        let Some(view) = &view else { continue };
        let lost = view.events_lost();
        if lost != lost_before {
            lost_before = lost;
            let view = view.clone();
            // Those first: one that opens meanwhile has a record, and is not looked for.
            let open = table.open_in_kernel();
            // Reads all records.
            let Ok(live) = tokio::task::spawn_blocking(move || view.connection_ids()).await else {
                continue;
            };
            for id in open.into_iter().filter(|id| !live.contains(&id.0)) {
                table.kernel_lost(id, Instant::now());
            }
        }
    }
}

/// Hands the kernel half's events to the table.
async fn join_events(mut events: Events, table: ConnectionTable, cgroups: CgroupNames) {
    loop {
        let taken = events
            .next(|event| {
                let pid = event.record.program.pid;
                if let Some(event) = KernelEvent::from_ring(event, |id| cgroups.path(id, pid)) {
                    table.kernel_event(event);
                } else {
                    tracing::trace!(
                        target: "sidecar::decisions",
                        verdict = event.verdict,
                        destination = %std::net::SocketAddr::from(event.record.original_destination),
                    );
                }
            })
            .await;
        if let Err(error) = taken {
            tracing::error!(%error, "the kernel half's events are lost from here on");
            return;
        }
    }
}
