//! Undoing what an instance set up: by its own hand as it ends, or by `sidecar detach` after it was killed.

use std::path::Path;

use crate::bpf::{BpfError, link, pins};
use crate::host::cgroup::{CgroupError, Hierarchy, unmount};
use crate::host::netns;
use crate::instance::{self, CGROUP_MOUNT, InstanceError, State};
use crate::iptables::{self, IptablesError};

/// What could not be undone.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Programs and pins.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// A link, by its number.
    #[error("detach link {id}: {cause}")]
    Link {
        /// The kernel's number.
        id: u32,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// The network namespace of the rules.
    #[error("enter the instance's network namespace: {0}")]
    Netns(std::io::Error),
    /// Rules.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
    /// The directory.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

/// Removes the rules in the network namespace in which they were installed, whichever we are in. Nothing holds it any
/// more: then they are gone with it.
fn remove_rules(state: &State) -> Result<(), DetachError> {
    let remove = || iptables::remove_instance(state.name.as_str());
    match netns::within(state.netns, remove).map_err(DetachError::Netns)? {
        Some(removed) => Ok(removed.map(drop)?),
        None => Ok(()),
    }
}

/// Undoes everything that a state lists, in the order that keeps traffic whole: first what sends traffic to the proxy,
/// then processes. Each step is tried even if one before it failed; the first failure is returned, and the
/// instance's directory then stays, so that it can be tried again.
pub fn undo(directory: &Path, state: &State) -> Result<(), DetachError> {
    let mut first_failure = Ok(());
    let mut step = |result: Result<(), DetachError>| {
        if let Err(error) = result {
            tracing::error!(instance = %state.name, %error, "detach");
            if first_failure.is_ok() {
                first_failure = Err(error);
            }
        }
    };
    let numbers_hold = !state.is_of_another_boot();
    if state.iptables && numbers_hold {
        step(remove_rules(state));
    }
    for &id in state.links.iter().filter(|_| numbers_hold) {
        step(link::detach(id).map(drop).map_err(|cause| DetachError::Link { id, cause }));
    }
    if let Some(path) = &state.pins {
        let pins = pins::PinDirectory { path: path.clone(), mounted: state.pins_mounted };
        step(pins::remove(&pins).map_err(Into::into));
    }
    let own_mount = directory.join(CGROUP_MOUNT);
    if !state.cgroups.is_empty() {
        match Hierarchy::find(&own_mount) {
            Ok(hierarchy) => {
                for cgroup in &state.cgroups {
                    step(hierarchy.remove(cgroup).map_err(Into::into));
                }
            }
            Err(error) => step(Err(error.into())),
        }
    }
    step(unmount(&own_mount).map_err(Into::into));
    first_failure?;
    instance::remove(directory).map_err(Into::into)
}
