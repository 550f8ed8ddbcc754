//! Arming a Pod: what `sidecar init` and `sidecar agent` do alike, in the network namespace of the Pod.

use std::io;

use crate::arm::{ArmError, Armed, Exemption, programs_for};
use crate::config::{Config, Ports};
use crate::host::cgroup::{CgroupPath, Hierarchy};
use crate::host::seed::Except;
use crate::instance::Instance;
use crate::seeded::Seeded;
use crate::servers::PortsInUse;

/// The proxy's user in a Pod, as Istio's.
pub const PROXY_UID: u32 = 1337;

/// Istio's ports.
const PORTS: Ports = Ports {
    outbound: Some(15001),
    inbound: Some(15006),
    admin: Some(15000),
    metrics: Some(15020),
    health: Some(15021),
};

/// What is armed, and for whom.
pub struct Pod<'a> {
    /// The machine's hierarchy.
    pub hierarchy: &'a Hierarchy,
    /// The cgroup that holds the application and the proxy.
    pub cgroup: &'a CgroupPath,
    /// The user that the proxy runs as.
    pub user: u32,
    /// The mark of its connections; 0: none.
    pub mark: u32,
    /// Where it listens.
    pub ports: PortsInUse,
}

/// How the bypass gets to the proxy.
pub struct Bypass<'a> {
    /// It opens what is pinned as this user; `None`: it is handed over.
    pub opened_by: Option<u32>,
    /// Why this kernel cannot be trusted with it, if it cannot.
    pub doubt: &'a dyn Fn() -> io::Result<Option<String>>,
}

impl Pod<'_> {
    /// How the proxy is told from programs.
    pub fn exemption(&self) -> Exemption {
        Exemption::User { uid: self.user, mark: self.mark, ports: [self.ports.outbound, self.ports.inbound] }
    }

    /// Arms what is attached to this thread's network namespace and the Pod's cgroup. `mount_stays`: whether a bpffs
    /// that was mounted for it outlives this process.
    pub fn arm(
        &self,
        config: &Config,
        bypass: &Bypass<'_>,
        mount_stays: impl FnOnce() -> bool,
        instance: &mut Instance,
    ) -> Result<Armed, ArmError> {
        let mut armed = Armed::load(&self.without_own_ports(config), self.exemption(), instance)?;
        if instance.state.pins.is_none() || instance.state.pins_mounted && !mount_stays() {
            return Err(ArmError::NoBpffs);
        }
        armed.pin_bypass(&config.interception, bypass.opened_by, bypass.doubt, instance)?;
        instance.state.armed = Some(self.cgroup.clone());
        armed.cgroup(programs_for(true), self.hierarchy, self.cgroup, instance)?;
        // Nobody looks after them from here on: the mark of one that closes stays.
        let directory = self.hierarchy.directory(self.cgroup);
        Seeded::new(&mut armed.kernel, &directory, Except::User(self.user))?;
        armed.netns(instance)?;
        Ok(armed)
    }

    /// The proxy's own ports are not steered, also those of a proxy that does not say what its listeners are for.
    fn without_own_ports(&self, config: &Config) -> Config {
        let mut config = config.clone();
        let PortsInUse { outbound, inbound, admin, metrics, health } = self.ports;
        config.interception.inbound.exclude_ports.extend([outbound, inbound, admin, metrics, health]);
        config
    }
}

/// Where the configuration fixes no port, Istio's.
pub fn with_defaults(ports: Ports) -> Ports {
    Ports {
        outbound: ports.outbound.or(PORTS.outbound),
        inbound: ports.inbound.or(PORTS.inbound),
        admin: ports.admin.or(PORTS.admin),
        metrics: ports.metrics.or(PORTS.metrics),
        health: ports.health.or(PORTS.health),
    }
}

/// The ports of a Pod's proxy by this configuration.
pub fn ports(ports: Ports) -> PortsInUse {
    let ports = with_defaults(ports);
    let or_none = Option::unwrap_or_default;
    PortsInUse {
        outbound: or_none(ports.outbound),
        inbound: or_none(ports.inbound),
        admin: or_none(ports.admin),
        metrics: or_none(ports.metrics),
        health: or_none(ports.health),
    }
}
