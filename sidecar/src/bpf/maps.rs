//! Typed handles on the maps: settings in, counters out. No policy.

use std::collections::HashSet;
use std::net::SocketAddr;

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError};
use ipnet::IpNet;
use sidecar_common::address::{CidrKey, Ip};
use sidecar_common::bypass::Peer;
use sidecar_common::connection::Record;
use sidecar_common::flow::{FlowKey, NetnsCookie, Origin, Program, ServiceKey};
use sidecar_common::settings::{Direction, PortKey, Settings, port_rule};
use sidecar_common::stats::{Counters, Stat};

use super::{BpfError, Kernel};

/// The lists of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Ports that are included; empty: all.
    pub include_ports: &'a [u16],
    /// Ports that are excluded; they win.
    pub exclude_ports: &'a [u16],
    /// Networks that are included.
    pub include_networks: &'a [IpNet],
    /// Networks that are excluded; they win.
    pub exclude_networks: &'a [IpNet],
}

/// A map's fill.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Its name.
    pub map: &'static str,
    /// Its entries now.
    pub entries: u64,
    /// Its bound.
    pub capacity: u64,
}

/// Marks listeners that were there before their cgroup was armed, whose listen() and close the kernel half does not see.
pub struct Seeds {
    map: HashMap<MapData, ServiceKey, Program>,
    netns_cookie: bool,
}

/// Reads counters and fills; keeps its own handles, so that it can live apart from [`Kernel`].
pub struct Meters {
    stats: Array<MapData, Counters>,
    records: HashMap<MapData, u64, Record>,
    origins: HashMap<MapData, FlowKey, Origin>,
    capacities: [u64; 2],
}

impl Kernel {
    /// Sets what the programs decide by.
    pub fn configure(&mut self, settings: Settings) -> Result<(), BpfError> {
        let mut map: Array<_, Settings> = typed(&mut self.ebpf, "SETTINGS")?;
        map.set(0, settings, 0).map_err(|error| failed("SETTINGS", &error))
    }

    /// Writes the lists of one direction. Called before anything is attached.
    pub fn select(&mut self, direction: Direction, selection: &Selection<'_>) -> Result<(), BpfError> {
        let mut ports: HashMap<_, PortKey, u32> = typed(&mut self.ebpf, "PORTS")?;
        let rules =
            [(selection.include_ports, port_rule::INCLUDE), (selection.exclude_ports, port_rule::EXCLUDE)];
        for (list, rule) in rules {
            for &port in list {
                let key = PortKey { direction: direction as u16, port };
                let value = ports.get(&key, 0).unwrap_or(0) | rule;
                ports.insert(key, value, 0).map_err(|error| failed("PORTS", &error))?;
            }
        }
        for (name, networks) in
            [("INCLUDE", selection.include_networks), ("EXCLUDE", selection.exclude_networks)]
        {
            let mut trie: LpmTrie<_, CidrKey, u32> = typed(&mut self.ebpf, name)?;
            for network in networks {
                let (key, bits) = cidr_key(direction, network);
                trie.insert(&key, bits, 0).map_err(|error| failed(name, &error))?;
            }
        }
        Ok(())
    }

    /// Takes the map of listeners that were there before us. Can be done once.
    pub fn seeds(&mut self) -> Result<Seeds, BpfError> {
        Ok(Seeds { map: taken(&mut self.ebpf, "SEEDED")?, netns_cookie: self.features.netns_cookie })
    }

    /// Forgets what the self-test did, which is no program's traffic: its sockets, and what was counted.
    pub fn forget_redirected(&mut self) -> Result<(), BpfError> {
        let mut peers: HashMap<_, u64, Peer> = typed(&mut self.ebpf, "PEERS")?;
        let sockets: Vec<u64> = peers.keys().filter_map(Result::ok).collect();
        for socket in sockets {
            // It may have gone by itself.
            let _ = peers.remove(&socket);
        }
        let mut stats: Array<_, Counters> = typed(&mut self.ebpf, "STATS")?;
        for cpu in 0..stats.len() {
            // What else is counted on it just then, by a program that is armed already, is lost.
            let mut counters = stats.get(&cpu, 0).map_err(|error| failed("STATS", &error))?;
            counters.0[Stat::RedirectedMessages as usize..].fill(0);
            stats.set(cpu, counters, 0).map_err(|error| failed("STATS", &error))?;
        }
        Ok(())
    }

    /// Takes the counters. Can be done once.
    pub fn meters(&mut self) -> Result<Meters, BpfError> {
        let capacities = self.capacities.map(u64::from);
        Ok(Meters {
            capacities,
            stats: taken(&mut self.ebpf, "STATS")?,
            records: taken(&mut self.ebpf, "RECORDS")?,
            origins: taken(&mut self.ebpf, "ORIGINS")?,
        })
    }
}

impl Seeds {
    /// Marks a listener as one of an armed program.
    pub fn add(&mut self, netns: NetnsCookie, address: SocketAddr, program: Program) -> Result<(), BpfError> {
        let key = self.key(netns, address);
        self.map.insert(key, program, 0).map_err(|error| failed("SEEDED", &error))
    }

    /// The listener is gone. Fine when it was not marked.
    pub fn remove(&mut self, netns: NetnsCookie, address: SocketAddr) {
        let key = self.key(netns, address);
        let _ = self.map.remove(&key);
    }

    fn key(&self, netns: NetnsCookie, address: SocketAddr) -> ServiceKey {
        ServiceKey { netns: if self.netns_cookie { netns } else { 0 }, endpoint: address.into() }
    }
}

impl Meters {
    /// All counters.
    pub fn counters(&self) -> Counters {
        Counters::sum((0..self.stats.len()).filter_map(|cpu| self.stats.get(&cpu, 0).ok()))
    }

    /// The ids of the connections that have a record now.
    pub fn connection_ids(&self) -> HashSet<u64> {
        let [records, _] = self.capacities;
        let all = self.records.iter().take(bounded(records));
        all.filter_map(Result::ok).map(|(_, record)| record.id).collect()
    }

    /// How full the maps are that can fill up.
    pub fn fills(&self) -> [Fill; 2] {
        let fill = |map, entries: usize, capacity| Fill { map, entries: entries as u64, capacity };
        let [records, origins] = self.capacities;
        [
            fill("RECORDS", self.records.keys().take(bounded(records)).count(), records),
            fill("ORIGINS", self.origins.keys().take(bounded(origins)).count(), origins),
        ]
    }
}

/// A walk over a map that changes may begin again: it ends after as many steps as the map has room for.
fn bounded(capacity: u64) -> usize {
    usize::try_from(capacity).unwrap_or(usize::MAX)
}

/// The key of a network, and its prefix length, which is also its value.
fn cidr_key(direction: Direction, network: &IpNet) -> (Key<CidrKey>, u32) {
    let mapped = if network.addr().is_ipv4() { 96 } else { 0 };
    let bits = 32 + mapped + u32::from(network.prefix_len());
    let key = CidrKey { direction: direction as u32, ip: Ip::from(network.network()) };
    (Key::new(bits, key), bits)
}

fn typed<'a, M>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<M, BpfError>
where
    M: TryFrom<&'a mut Map, Error = MapError>,
{
    let map = ebpf
        .map_mut(name)
        .ok_or_else(|| BpfError::Map { map: name, reason: "not in the object".to_owned() })?;
    map.try_into().map_err(|error| failed(name, &error))
}

pub(super) fn taken<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, BpfError> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| BpfError::Map { map: name, reason: "not in the object, or taken".to_owned() })?;
    map.try_into().map_err(|error| failed(name, &error))
}

fn failed(map: &'static str, error: &MapError) -> BpfError {
    let reason = match error {
        MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
            "full: shorten the list".to_owned()
        }
        other => other.to_string(),
    };
    BpfError::Map { map, reason }
}
