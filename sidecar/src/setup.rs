//! A `sidecar run` from first to last: what it sets up, in order, and its undoing on every way out, also a panic.

use std::path::Path;

use crate::arm::{self, ArmError, Armed, Exemption, programs_for};
use crate::bpf::attach::ProgramName;
use crate::config::{Config, Mode};
use crate::detach;
use crate::host::cgroup::{CgroupError, CgroupPath, Hierarchy};
use crate::host::seed::{self, Except};
use crate::instance::{self, CGROUP_MOUNT, Instance, InstanceError, InstanceName, Owner};
use crate::iptables::{self, IptablesError};
use crate::seeded::Seeded;
use crate::servers::PortsInUse;

/// What could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Its name or directory.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Two proxies would hand each connection to each other.
    #[error("this process already runs under instance {0}: end that first, or run beside it")]
    Nested(InstanceName),
    /// Its cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The kernel half.
    #[error(transparent)]
    Arm(#[from] ArmError),
    /// The rules.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
}

/// What a run has set up. Dropping it undoes all of it.
pub struct Setup {
    instance: Instance,
    hierarchy: Hierarchy,
    /// Where this process was before.
    home: CgroupPath,
    /// `proxy` and `app` are below it.
    tree: CgroupPath,
    /// What is armed besides: a cgroup that the user named.
    named: Option<CgroupPath>,
    armed: Option<Armed>,
    rules: Option<iptables::Rules>,
    seeded: Option<Seeded>,
}

impl Setup {
    /// Claims the name, makes the cgroups and moves this process into the proxy's. Comes before any socket is made:
    /// a socket belongs to the cgroup in which it was made.
    pub fn begin(
        run_directory: &Path,
        name: InstanceName,
        named: Option<&Path>,
        with_command: bool,
    ) -> Result<Self, SetupError> {
        let mut instance = Instance::claim(run_directory, name, Owner::Process)?;
        instance.state.netns = seed::own_netns().unwrap_or_default();
        let hierarchy = Hierarchy::find(&instance.directory().join(CGROUP_MOUNT))?;
        let mut setup = Self {
            home: hierarchy.own()?,
            tree: CgroupPath::root(),
            named: None,
            armed: None,
            rules: None,
            seeded: None,
            instance,
            hierarchy,
        };
        if let Some(outer) = instance_around(run_directory, &setup.home) {
            return Err(SetupError::Nested(outer));
        }
        let named = named.map(|path| setup.hierarchy.named(path)).transpose()?;
        // With a command, the named cgroup is where its own is made; without one, it is what is armed.
        let (parent, armed) = match named {
            Some(cgroup) if with_command => (cgroup, None),
            armed => (setup.home.clone(), armed),
        };
        setup.instance.state.armed.clone_from(&armed);
        setup.named = armed;
        let tree = parent.child(&format!("sidecar-{}", setup.instance.state.name));
        setup.instance.state.cgroups.push(tree.clone());
        setup.instance.save()?;
        if let Err(error) = setup.hierarchy.create(&tree) {
            // Whoever has it, it is not ours to remove.
            setup.instance.state.cgroups.clear();
            return Err(error.into());
        }
        setup.tree = tree;
        setup.hierarchy.create(&setup.proxy_cgroup())?;
        setup.hierarchy.create(&setup.app_cgroup())?;
        setup.hierarchy.enter(&setup.proxy_cgroup())?;
        Ok(setup)
    }

    /// Arms this process: its sockets can tell the kernel half what they are. Nothing is captured yet.
    pub fn arm_proxy(&mut self, config: &Config) -> Result<(), SetupError> {
        if config.interception.mode != Mode::Ebpf {
            return Ok(());
        }
        let proxy = self.proxy_cgroup();
        let exemption = Exemption::Cgroup(self.hierarchy.id(&proxy)?);
        let armed = self.armed.insert(Armed::load(config, exemption, &mut self.instance)?);
        if !self.named.as_ref().is_some_and(|named| named.contains(&proxy)) {
            armed.cgroup(&ProgramName::OF_PROXY, &self.hierarchy, &proxy, &mut self.instance)?;
        } else if let Some(named) = &self.named {
            armed.cgroup(programs_for(true), &self.hierarchy, named, &mut self.instance)?;
        }
        Ok(armed.show_netns()?)
    }

    /// Arms the programs: from here on, their connections come to the listeners that are bound.
    pub fn arm_programs(&mut self, config: &Config, ports: &PortsInUse) -> Result<(), SetupError> {
        match config.interception.mode {
            Mode::Ebpf => self.attach_programs(),
            Mode::Iptables => self.install_rules(config, ports),
            Mode::None => Ok(()),
        }
    }

    fn attach_programs(&mut self) -> Result<(), SetupError> {
        let (app, proxy) = (self.app_cgroup(), self.proxy_cgroup());
        let Some(armed) = &mut self.armed else { return Ok(()) };
        if let Some(named) = &self.named {
            if !named.contains(&proxy) {
                armed.cgroup(programs_for(false), &self.hierarchy, named, &mut self.instance)?;
            }
            let proxy = self.hierarchy.directory(&proxy);
            let directory = self.hierarchy.directory(named);
            self.seeded = Some(Seeded::new(&mut armed.kernel, &directory, Except::Cgroup(&proxy))?);
        } else {
            armed.cgroup(programs_for(false), &self.hierarchy, &app, &mut self.instance)?;
        }
        Ok(armed.netns(&mut self.instance)?)
    }

    fn install_rules(&mut self, config: &Config, ports: &PortsInUse) -> Result<(), SetupError> {
        let scope = self.named.clone().unwrap_or_else(|| self.app_cgroup());
        let text = |cgroup: &CgroupPath| cgroup.as_path().display().to_string();
        let interception = &config.interception;
        // A packet that comes in belongs to no cgroup. In the machine's own namespace, taking all ports would take
        // those of its other services.
        let own_namespace = self.instance.state.netns != seed::netns_of_init().unwrap_or_default();
        let inbound = own_namespace || !interception.inbound.include_ports.is_empty();
        if !inbound {
            tracing::warn!(
                "inbound is not captured: list ports under spec.interception.inbound.includePorts"
            );
        }
        self.instance.state.iptables = true;
        self.instance.save()?;
        let exempt = iptables::Exempt::Cgroup(text(&self.proxy_cgroup()));
        let name = self.instance.state.name.as_str();
        let spec = arm::rules(config, name, ports, exempt, Some(text(&scope)), inbound);
        self.rules = Some(iptables::install(&spec)?);
        Ok(())
    }

    /// Ends the capturing of new connections by rules, and the processes that CMD left behind. What the kernel half
    /// captures ends with the listeners.
    pub fn stand_down(&mut self) {
        if self.rules.take().is_some_and(|rules| rules.remove().is_ok()) {
            self.instance.state.iptables = false;
        }
        self.hierarchy.kill(&self.app_cgroup());
    }

    /// The listeners that were there before a named cgroup was armed.
    pub fn take_seeded(&mut self) -> Option<Seeded> {
        self.seeded.take()
    }

    /// The instance.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The instance, to write down more.
    pub fn instance_mut(&mut self) -> &mut Instance {
        &mut self.instance
    }

    /// The kernel half, if there is one.
    pub fn armed_mut(&mut self) -> Option<&mut Armed> {
        self.armed.as_mut()
    }

    /// The hierarchy.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Where CMD is started.
    pub fn app_cgroup(&self) -> CgroupPath {
        self.tree.child("app")
    }

    fn proxy_cgroup(&self) -> CgroupPath {
        self.tree.child("proxy")
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if self.tree != CgroupPath::root() {
            self.stand_down();
        }
        // Closing our own links needs no privilege; by their numbers, only others' are detached.
        if self.armed.take().is_some() {
            self.instance.state.links.clear();
        }
        if let Err(error) = self.hierarchy.enter(&self.home) {
            tracing::error!(%error, "this process stays in the instance's cgroup");
        }
        if self.tree == CgroupPath::root() {
            self.instance.state.cgroups.clear();
        }
        if let Err(error) = detach::undo(self.instance.directory(), &self.instance.state) {
            tracing::error!(%error, "run `sidecar detach {}` to undo the rest", self.instance.state.name);
            self.instance.stay();
        }
    }
}

/// The instance whose cgroups hold this one, if any.
fn instance_around(run_directory: &Path, cgroup: &CgroupPath) -> Option<InstanceName> {
    let states =
        instance::directories(run_directory).into_iter().filter_map(|path| instance::read(&path).ok());
    let mut holding = states.filter(|state| state.holds(cgroup));
    holding.next().map(|state| state.name)
}
