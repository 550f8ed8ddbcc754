//! Two connected network namespaces.

use crate::Netns;
use crate::netns::ip;

/// The address of [`Pair::pod`].
pub const POD4: &str = "10.7.0.1";
/// The address of [`Pair::peer`].
pub const PEER4: &str = "10.7.0.2";
/// The address of [`Pair::pod`].
pub const POD6: &str = "fd00::1";
/// The address of [`Pair::peer`].
pub const PEER6: &str = "fd00::2";

const POD_MAC: &str = "02:00:00:00:00:01";
const PEER_MAC: &str = "02:00:00:00:00:02";

/// Two namespaces on one cable: `pod`, where the sidecar works, and `peer`, the world around it. All pairs use the
/// same addresses; nothing but the namespace tells them apart.
#[derive(Debug)]
pub struct Pair {
    /// Where the sidecar is started.
    pub pod: Netns,
    /// Where remote servers and clients are.
    pub peer: Netns,
}

impl Pair {
    /// Makes both; `hint` is the readable part of their unique names.
    pub fn new(hint: &str) -> Self {
        let pair =
            Self { pod: Netns::new(&format!("{hint}-pod")), peer: Netns::new(&format!("{hint}-peer")) };
        let (pod, peer) = (pair.pod.name(), pair.peer.name());
        ip(&["link", "add", "eth0", "netns", pod, "type", "veth", "peer", "name", "eth0", "netns", peer]);
        let ends = [(&pair.pod, POD4, POD6, POD_MAC), (&pair.peer, PEER4, PEER6, PEER_MAC)];
        for (netns, v4, v6, mac) in ends {
            netns.ip(&["address", "add", &format!("{v4}/24"), "dev", "eth0"]);
            netns.ip(&["address", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
            netns.ip(&["link", "set", "eth0", "address", mac, "up"]);
        }
        // An address answers neighbour solicitations only some time after its link is up, and the first packet would
        // wait a second for the next one.
        for (netns, v6, mac) in [(&pair.pod, PEER6, PEER_MAC), (&pair.peer, POD6, POD_MAC)] {
            netns.ip(&["neighbour", "add", v6, "lladdr", mac, "dev", "eth0", "nud", "permanent"]);
        }
        pair
    }

    /// An address on the cable, as seen from `pod`, that takes every packet and never answers.
    pub fn swallowing_address(&self) -> &'static str {
        let address = "10.7.0.66";
        self.pod.ip(&["neighbour", "replace", address, "lladdr", "02:00:00:00:00:66", "dev", "eth0"]);
        address
    }

    /// An address on the cable that nobody has: the kernel gives up after asking for it three times.
    pub fn absent_address(&self) -> &'static str {
        // 100 ms between the questions; the default is a second.
        self.pod.ip(&["ntable", "change", "name", "arp_cache", "dev", "eth0", "retrans", "100"]);
        "10.7.0.77"
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{DEADLINE, require};

    #[test]
    fn both_families_cross_the_cable() {
        require!(root);
        let pair = Pair::new("cable");
        for (listen, client) in [(PEER4, POD4), (PEER6, POD6)] {
            let listener = pair.peer.enter(|| TcpListener::bind((listen, 0)).unwrap());
            let address = listener.local_addr().unwrap();
            let start = Instant::now();
            let stream = pair.pod.enter(|| TcpStream::connect_timeout(&address, DEADLINE).unwrap());
            assert!(start.elapsed() < Duration::from_millis(900), "no first packet is lost");
            assert_eq!(stream.local_addr().unwrap().ip().to_string(), client);
            assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        }
    }

    #[test]
    fn the_swallowing_address_never_answers() {
        require!(root);
        let pair = Pair::new("swallow");
        let address = SocketAddr::new(pair.swallowing_address().parse().unwrap(), 9);
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(pair.pod.enter(connect).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }
}
