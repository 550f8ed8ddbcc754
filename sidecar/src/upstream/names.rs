//! Looking names up as the system does it, in /etc/hosts and by the servers of /etc/resolv.conf, and how long an answer holds.
//! getaddrinfo(3) does not tell that.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::ResolveHosts;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

/// What is known of a name.
#[derive(Default, Debug)]
pub struct Known {
    /// Those of the last answer; IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Look-ups that failed in a row.
    failures: u32,
}

/// A name was not found.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// The servers do not know it, or do not answer.
    #[error(transparent)]
    Dns(#[from] NetError),
    /// The system's configuration is of no use.
    #[error("/etc/resolv.conf: {0}")]
    Configuration(Arc<NetError>),
    /// The process ends.
    #[error("cannot read the system's configuration: {0}")]
    Ends(#[from] tokio::task::JoinError),
}

/// The system's configuration at one time.
struct System {
    stamps: [Option<Stamp>; 2],
    hosts: Hosts,
    resolver: Result<TokioResolver, Arc<NetError>>,
}

/// What tells that a file changed: its time, length and inode.
type Stamp = (SystemTime, u64, u64);

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What of /etc/hosts is read.
const MAX_HOSTS_BYTES: u64 = 1024 * 1024;
/// What a file says holds so long: it is cheap to look again.
const HOSTS_HOLD: Duration = Duration::from_secs(5);
/// The shortest and the longest that an answer holds, whatever it says itself.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The pause after a failure doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

// === impl Known ===

impl Known {
    /// Looks the name up. Where that fails, what was known stays. Returns when to do it again, and what went wrong.
    pub async fn renew(&mut self, name: &str) -> (Duration, Result<(), LookUpError>) {
        match look_up(name).await {
            Ok((addresses, holds)) => {
                (self.addresses, self.failures) = (addresses, 0);
                (holds, Ok(()))
            }
            Err(error) => {
                let pause = pause(self.failures);
                self.failures = self.failures.saturating_add(1);
                (pause, Err(error))
            }
        }
    }
}

/// How long to wait after so many failures before this one.
fn pause(failures: u32) -> Duration {
    SHORTEST.saturating_mul(1 << failures.min(5)).min(LONGEST_PAUSE)
}

/// The addresses of a name, and how long they hold.
async fn look_up(name: &str) -> Result<(Vec<IpAddr>, Duration), LookUpError> {
    // The files may be on a slow file system.
    let system = tokio::task::spawn_blocking(System::current).await?;
    if let Some(addresses) = system.by_hosts(name) {
        return Ok((addresses, HOSTS_HOLD));
    }
    let resolver = system.resolver.as_ref().map_err(|error| LookUpError::Configuration(Arc::clone(error)))?;
    let found = resolver.lookup_ip(name).await?;
    let answers = found.as_lookup().answers();
    let seconds = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
    let holds = Duration::from_secs(seconds.into()).clamp(SHORTEST, LONGEST);
    Ok((usable(found.iter().collect()), holds))
}

/// IPv4 first, and IPv6 only where there is a way to it or nothing else: of a name with both, half of the requests would
/// fail in a network that has one.
fn usable(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort();
    addresses.dedup();
    if addresses.first().is_some_and(IpAddr::is_ipv4) {
        addresses.retain(|address| address.is_ipv4() || has_route(*address));
    }
    addresses
}

/// Asks the kernel; connecting a UDP socket sends nothing.
fn has_route(address: IpAddr) -> bool {
    let any: SocketAddr = ([0u16; 8], 0).into();
    UdpSocket::bind(any).and_then(|socket| socket.connect((address, 9))).is_ok()
}

// === impl System ===

impl System {
    /// As it is now; read again when its files have changed.
    fn current() -> Arc<Self> {
        static LAST: Mutex<Option<Arc<System>>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = [stamp(HOSTS), stamp(RESOLV_CONF)];
        if let Some(system) = last.as_ref().filter(|system| system.stamps == stamps) {
            return Arc::clone(system);
        }
        let system = Arc::new(Self {
            stamps,
            hosts: hosts().unwrap_or_default(),
            resolver: resolver().map_err(Arc::new),
        });
        Arc::clone(last.insert(system))
    }

    fn by_hosts(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = Name::from_ascii(name).ok()?;
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found: Vec<Lookup> = [of(RecordType::A), of(RecordType::AAAA)].into_iter().flatten().collect();
        let records = found.iter().flat_map(Lookup::answers);
        let addresses: Vec<IpAddr> = records.filter_map(|record| record.data.ip_addr()).collect();
        (!addresses.is_empty()).then(|| usable(addresses))
    }
}

fn hosts() -> io::Result<Hosts> {
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf(File::open(HOSTS)?.take(MAX_HOSTS_BYTES))?;
    Ok(hosts)
}

fn resolver() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    // Whoever asks keeps the answer for as long as it holds.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

/// `None`: the file is not there.
fn stamp(path: &str) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_a_bound() {
        let seconds: Vec<u64> = (0..8).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn ipv4_comes_first_and_each_address_once() {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(
            usable(read(&["127.0.0.2", "::1", "127.0.0.1", "127.0.0.2"]))[..2],
            read(&["127.0.0.1", "127.0.0.2"])
        );
        assert_eq!(usable(read(&["::2", "::1"])), read(&["::1", "::2"]));
    }

    #[test]
    fn hosts_come_before_servers() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"127.0.0.1 app.example other\n127.0.0.2 app.example\n"[..]).unwrap();
        let none = Err(Arc::new(NetError::from("none")));
        let system = System { stamps: [None, None], hosts, resolver: none };
        let app = system.by_hosts("app.example").unwrap();
        assert_eq!(app, ["127.0.0.1".parse::<IpAddr>().unwrap(), "127.0.0.2".parse().unwrap()]);
        assert_eq!(system.by_hosts("example"), None);
    }
}
