//! Listeners that were there before their cgroup was armed: marked in the kernel half, and looked after, since it does
//! not see them close.

use std::path::Path;
use std::time::Duration;

use sidecar_common::flow::NetnsCookie;

use crate::arm::ArmError;
use crate::bpf::Kernel;
use crate::bpf::maps::Seeds;
use crate::host::seed::{self, Except, Found};
use crate::net::sys;

/// How often they are looked after.
const PERIOD: Duration = Duration::from_secs(1);

/// The listeners that are marked.
pub struct Seeded {
    seeds: Seeds,
    netns: NetnsCookie,
    listeners: Vec<Found>,
}

impl Seeded {
    /// Marks the listeners of the processes in a cgroup and below it, but for the proxy's.
    pub fn new(kernel: &mut Kernel, directory: &Path, proxy: Except<'_>) -> Result<Self, ArmError> {
        let netns = sys::netns_cookie()?;
        let mut seeds = kernel.seeds()?;
        let listeners = seed::listeners(directory, proxy).map_err(ArmError::Listeners)?;
        for found in &listeners {
            seeds.add(netns, found.address, found.program)?;
        }
        Ok(Self { seeds, netns, listeners })
    }

    /// Takes the mark off those that close, each second, until none is left. Cancel safe.
    pub async fn look_after(mut self) {
        let mut tick = tokio::time::interval(PERIOD);
        while !self.listeners.is_empty() {
            tick.tick().await;
            // Reads the sockets of the whole network namespace.
            let Ok(open) = tokio::task::spawn_blocking(seed::listening_inodes).await else { return };
            let (kept, closed) = self.listeners.drain(..).partition(|found| open.contains_key(&found.inode));
            self.listeners = kept;
            for found in closed {
                let Found { address, .. } = found;
                // Another that was marked may share the address (SO_REUSEPORT).
                if !self.listeners.iter().any(|kept| kept.address == address) {
                    self.seeds.remove(self.netns, address);
                }
            }
        }
    }
}
