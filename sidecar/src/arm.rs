//! Arming: from a configuration to an attached kernel half, in an order that never sends a connection to nobody.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use sidecar_common::settings::{self, NO_UID, Settings, flag};
use socket2::{Domain, Protocol, Socket, Type};

use crate::bpf::attach::{Attachments, ProgramName};
use crate::bpf::bypass::proof;
use crate::bpf::maps::Selection;
use crate::bpf::pins::{self, PinDirectory};
use crate::bpf::{BpfError, Kernel, loader};
use crate::bypass::Ladder;
use crate::config::{Config, Interception, OnProxyDown};
use crate::host::cgroup::{CgroupPath, Hierarchy};
use crate::instance::Instance;
use crate::iptables;
use crate::net::sys;
use crate::servers::PortsInUse;

/// The most connections that a kernel half is sized for; more entries would only cost lookup time.
const MAX_CONNECTIONS: usize = 1 << 20;

/// Those of a Pod whose configuration gives no bound. The kernel's memory for them is taken at once, and there are many Pods.
const CONNECTIONS_OF_POD: usize = 8_192;
/// More than there are ports that the kernel hands out by itself (`net.ipv4.ip_local_port_range`).
const LISTENERS_OF_POD: u32 = 32_768;

/// How the proxy's own sockets are told from those of programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exemption {
    /// By the proxy's cgroup: `sidecar run`, which makes one for it.
    Cgroup(u64),
    /// By user, and by mark for proxies that set one: a Pod, whose containers' cgroups are not known beforehand.
    /// The ports are those on which an unmodified proxy listens, which does not say what it is.
    User {
        /// The proxy's uid.
        uid: u32,
        /// The mark of its connections; 0: none.
        mark: u32,
        /// Its outbound and inbound port.
        ports: [u16; 2],
    },
}

/// A kernel half, loaded, and what of it is attached.
pub struct Armed {
    /// Its maps.
    pub kernel: Kernel,
    attachments: Attachments,
}

/// What could not be armed.
#[derive(Debug, thiserror::Error)]
pub enum ArmError {
    /// The kernel half.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// `onProxyDown: closed` cannot be kept.
    #[error("onProxyDown: closed asks for pinned programs, which outlive the proxy: {0}")]
    NotPinned(BpfError),
    /// A bypass was asked for by name.
    #[error("bypass: this kernel fails the self-test: {0}; write `bypass: auto` to go on without")]
    NoBypass(String),
    /// The network namespace.
    #[error("network namespace")]
    Netns(#[from] io::Error),
    /// The listeners that are there already.
    #[error("read which sockets the programs have: {0}: run with CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE")]
    Listeners(io::Error),
    /// Nothing can be pinned so that it outlives the process that arms.
    #[error(
        "no bpffs that outlives this command: mount one on the machine (mount -t bpf bpf /sys/fs/bpf) and, in a \
         container, mount that; enter a network namespace by nsenter rather than by ip netns exec, which hides it"
    )]
    NoBpffs,
    /// The instance's state.
    #[error(transparent)]
    Instance(#[from] crate::instance::InstanceError),
}

// === impl Armed ===

impl Armed {
    /// Loads the programs and sets the lists; attaches nothing.
    pub fn load(config: &Config, exemption: Exemption, instance: &mut Instance) -> Result<Self, ArmError> {
        let mut kernel = loader::load(sys::netns_cookie()?, room_for(config, exemption))?;
        for missing in kernel.features.degradations() {
            tracing::info!("this kernel has {missing}");
        }
        let pins = pin_directory(config, instance)?;
        kernel.hold_shared(pins.as_deref())?;
        let interception = &config.interception;
        let (out, into) = (&interception.outbound, &interception.inbound);
        kernel.select(
            settings::Direction::Outbound,
            &Selection {
                include_ports: &out.include_ports,
                exclude_ports: &out.exclude_ports,
                include_networks: &out.include_cidrs,
                exclude_networks: &out.exclude_cidrs,
            },
        )?;
        kernel.select(
            settings::Direction::Inbound,
            &Selection {
                include_ports: &into.include_ports,
                exclude_ports: &into.exclude_ports,
                include_networks: &into.include_cidrs,
                exclude_networks: &into.exclude_cidrs,
            },
        )?;
        kernel.configure(settings_of(interception, exemption))?;
        Ok(Self { kernel, attachments: Attachments::new(pins) })
    }

    /// Sets anew what the programs decide by, but for the lists.
    pub fn settle(&mut self, interception: &Interception, exemption: Exemption) -> Result<(), ArmError> {
        Ok(self.kernel.configure(settings_of(interception, exemption))?)
    }

    /// Attaches programs to a cgroup, and writes down that they are.
    pub fn cgroup(
        &mut self,
        programs: &[ProgramName],
        hierarchy: &Hierarchy,
        cgroup: &CgroupPath,
        instance: &mut Instance,
    ) -> Result<(), ArmError> {
        self.attachments.cgroup(&mut self.kernel, programs, &hierarchy.directory(cgroup))?;
        self.write_down(instance)
    }

    /// Steers inbound connections of this thread's network namespace, and writes down that they are.
    pub fn netns(&mut self, instance: &mut Instance) -> Result<(), ArmError> {
        let netns = File::open("/proc/thread-self/ns/net")?;
        self.attachments.netns(&mut self.kernel, &netns)?;
        self.write_down(instance)
    }

    /// Shows the kernel half this process's network namespace, once its sockets are armed as the proxy's. Before Linux
    /// 5.15 only programs at connect() can ask for it, and `SO_NETNS_COOKIE` is no older than 5.14.
    pub fn show_netns(&self) -> Result<(), ArmError> {
        if !self.kernel.features.netns_cookie {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            // Port 0 never has a listener: this is refused, and by then has been seen.
            let _ = socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into());
        }
        Ok(())
    }

    /// Loads the bypass and proves that this kernel can be trusted with it; by `auto`, goes without where it cannot, for
    /// the reason that is returned. To be called while this process is armed as the proxy.
    pub fn prove_bypass(&mut self, interception: &Interception) -> Result<Result<Ladder, String>, ArmError> {
        if !interception.wants_bypass() {
            return Ok(Err("by configuration".to_owned()));
        }
        let proven = proof::prove(&mut self.kernel, sys::netns_cookie()?, 0);
        let doubt = match &proven {
            Ok(proven) => proven.doubt(),
            Err(error) => Some(error.to_string()),
        };
        match (proven, doubt) {
            (Ok(proven), None) => Ok(Ok(Ladder::new(proven.bypass, interception))),
            (_, doubt) => without_bypass(interception, doubt.unwrap_or_default()).map(Err),
        }
    }

    /// Loads the bypass and pins it for a proxy of another user, to open or to be handed over. The self-test takes place
    /// elsewhere on this kernel, since this process is not armed as the proxy: `doubt` says how it went. Writes down why,
    /// where there is none.
    pub fn pin_bypass(
        &mut self,
        interception: &Interception,
        user: Option<u32>,
        doubt: impl FnOnce() -> io::Result<Option<String>>,
        instance: &mut Instance,
    ) -> Result<(), ArmError> {
        instance.state.no_bypass = match &instance.state.pins {
            _ if !interception.wants_bypass() => Some("by configuration".to_owned()),
            None => Some(without_bypass(interception, "nothing can be pinned".to_owned())?),
            Some(pins) => match self.bypass_for(pins, user, doubt) {
                Ok(()) => None,
                Err(doubt) => Some(without_bypass(interception, doubt)?),
            },
        };
        Ok(instance.save()?)
    }

    fn bypass_for(
        &mut self,
        pins: &Path,
        user: Option<u32>,
        doubt: impl FnOnce() -> io::Result<Option<String>>,
    ) -> Result<(), String> {
        if let Some(doubt) = doubt().map_err(|error| error.to_string())? {
            return Err(doubt);
        }
        let netns = sys::netns_cookie().map_err(|error| error.to_string())?;
        let bypass = self.kernel.bypass(netns).map_err(|error| error.to_string())?;
        bypass.pin(pins, user).map_err(|error| error.to_string())?;
        if let Err(error) = self.kernel.answer_packets(pins) {
            tracing::info!(%error, "a proxy whose seccomp profile refuses bpf(2) has no bypass");
        }
        Ok(())
    }

    fn write_down(&self, instance: &mut Instance) -> Result<(), ArmError> {
        instance.state.links = self.attachments.link_ids();
        Ok(instance.save()?)
    }
}

fn room_for(config: &Config, exemption: Exemption) -> loader::Room {
    let Interception { outbound, inbound, .. } = &config.interception;
    let lists =
        [&outbound.include_ports, &outbound.exclude_ports, &inbound.include_ports, &inbound.exclude_ports];
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let limits = &config.limits;
    let (connections, listeners) = match exemption {
        Exemption::Cgroup(_) => (limits.connections(), 65_536),
        Exemption::User { .. } => (limits.max_connections.unwrap_or(CONNECTIONS_OF_POD), LISTENERS_OF_POD),
    };
    loader::Room {
        connections: number(connections.clamp(1, MAX_CONNECTIONS)),
        listeners,
        ports: number(lists.iter().map(|list| list.len()).sum()),
        // Whoever arms a Pod is not there any more.
        events: matches!(exemption, Exemption::Cgroup(_)),
        same_node: config.interception.wants_same_node(),
    }
}

/// Written down before it is made. Without one, links end with this process.
fn pin_directory(config: &Config, instance: &mut Instance) -> Result<Option<std::path::PathBuf>, ArmError> {
    match pins::create(instance.state.name.as_str(), instance.directory()) {
        Ok(PinDirectory { path, mounted }) => {
            instance.state.pins = Some(path.clone());
            instance.state.pins_mounted = mounted;
            instance.save()?;
            Ok(Some(path))
        }
        Err(error) if config.interception.on_proxy_down == OnProxyDown::Closed => {
            Err(ArmError::NotPinned(error))
        }
        Err(error) => {
            tracing::warn!(%error, "nothing is pinned: the programs go with this process");
            Ok(None)
        }
    }
}

/// An error where the bypass is asked for by name; else the reason, in words.
fn without_bypass(interception: &Interception, doubt: String) -> Result<String, ArmError> {
    if interception.insists_on_bypass() {
        return Err(ArmError::NoBypass(doubt));
    }
    Ok(format!("this kernel fails the self-test: {doubt}"))
}

fn settings_of(interception: &Interception, exemption: Exemption) -> Settings {
    let mut flags = 0;
    let mut set = |condition: bool, flag: u32| flags |= if condition { flag } else { 0 };
    set(interception.outbound.capture_loopback, flag::CAPTURE_LOOPBACK);
    set(interception.on_proxy_down == OnProxyDown::Closed, flag::FAIL_CLOSED);
    set(!interception.outbound.include_ports.is_empty(), flag::OUTBOUND_INCLUDE_PORTS);
    set(!interception.inbound.include_ports.is_empty(), flag::INBOUND_INCLUDE_PORTS);
    set(!is_everything(&interception.outbound.include_cidrs), flag::OUTBOUND_INCLUDE_CIDRS);
    set(!is_everything(&interception.inbound.include_cidrs), flag::INBOUND_INCLUDE_CIDRS);
    set(tracing::enabled!(target: "sidecar::decisions", tracing::Level::TRACE), flag::TRACE);
    let none = Settings { flags, exempt_uid: NO_UID, ..Settings::default() };
    match exemption {
        Exemption::Cgroup(id) => Settings { exempt_cgroup: id, ..none },
        Exemption::User { uid, mark, ports: [outbound_port, inbound_port] } => {
            Settings { exempt_uid: uid, exempt_mark: mark, outbound_port, inbound_port, ..none }
        }
    }
}

/// The rules of `interception: iptables`. `inbound`: whether inbound connections are captured at all.
pub fn rules(
    config: &Config,
    instance: &str,
    ports: &PortsInUse,
    exempt: iptables::Exempt,
    scope: Option<String>,
    inbound: bool,
) -> iptables::Spec {
    let Interception { outbound: from, inbound: to, .. } = &config.interception;
    let own = [ports.admin, ports.metrics, ports.health];
    iptables::Spec {
        instance: instance.to_owned(),
        outbound_port: ports.outbound,
        inbound_port: inbound.then_some(ports.inbound),
        exempt,
        scope,
        capture_loopback: from.capture_loopback,
        include_cidrs: if is_everything(&from.include_cidrs) {
            Vec::new()
        } else {
            from.include_cidrs.clone()
        },
        exclude_cidrs: from.exclude_cidrs.clone(),
        include_outbound_ports: from.include_ports.clone(),
        exclude_outbound_ports: from.exclude_ports.clone(),
        include_inbound_ports: to.include_ports.clone(),
        exclude_inbound_ports: to.exclude_ports.iter().copied().chain(own).collect(),
    }
}

/// All of IPv4 and all of IPv6.
fn is_everything(networks: &[IpNet]) -> bool {
    let all = |v4: bool| networks.iter().any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == v4);
    all(true) && all(false)
}

/// What `Armed` attaches to a cgroup that holds programs only, or the proxy as well.
pub fn programs_for(holds_proxy: bool) -> &'static [ProgramName] {
    if holds_proxy { ProgramName::OF_BOTH } else { &ProgramName::OF_PROGRAMS }
}
