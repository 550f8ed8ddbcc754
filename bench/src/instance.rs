//! A mode's own network namespaces with its proxies, which stay through the whole run.

use std::thread;

use anyhow::{Result, ensure};
use sidecar_tests::{Finished, Mounts, Netns, PEER4, Pair, Place};

use crate::memory::{self, Memory};
use crate::mode::Mode;
use crate::proxy::Proxy;
use crate::routes;
use crate::served::{Served, Side};
use crate::suite::Suite;
use crate::token::Token;

/// A mode, ready to be measured. Dropping it undoes it.
pub(crate) struct Instance {
    pub(crate) mode: Mode,
    /// The client's proxy's memory before its first connection.
    pub(crate) idle: Memory,
    client: End,
    /// Where the server is, when it is not beside the client.
    server: Option<End>,
    // After the proxies, which are in it.
    _node: Option<Mounts>,
}

/// A Pod.
struct End {
    proxy: Proxy,
    // After the proxy, which is in it.
    netns: Netns,
}

impl Instance {
    /// Makes it.
    pub(crate) fn start(mode: Mode, suite: Suite, token: &Token) -> Result<Self> {
        let node = (mode == Mode::EbpfSameNode).then(Mounts::with_bpffs);
        let end = |netns| End::start(netns, node.as_ref(), mode, suite, token);
        let (client, server) = match suite {
            Suite::Tcp | Suite::Http => (end(Netns::new(mode.id()))?, None),
            Suite::Pods => {
                let Pair { pod, peer } = Pair::new(mode.id());
                let server = end(peer)?;
                (end(pod)?, Some(server))
            }
        };
        let mut instance = Self { mode, idle: Memory::default(), client, server, _node: node };
        #[allow(clippy::disallowed_methods, reason = "there is nothing to wait for but the time")]
        if !instance.pids().is_empty() {
            thread::sleep(memory::IDLE);
        }
        instance.idle = instance.memory()?;
        if mode == Mode::Policies {
            instance.refuses_strangers()?;
        }
        Ok(instance)
    }

    /// Policies that hold for nothing would be measured as cheap ones.
    fn refuses_strangers(&self) -> Result<()> {
        let mut curl = self.client().command("curl");
        curl.args(["-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", routes::URL]);
        let status = Finished::of(&mut curl).success();
        ensure!(status == "401", "a request without a token is answered with {status}");
        Ok(())
    }

    /// Where clients run.
    pub(crate) fn client(&self) -> Place {
        self.client.place()
    }

    /// Where servers run.
    pub(crate) fn server(&self) -> Place {
        self.server.as_ref().unwrap_or(&self.client).place()
    }

    /// Where clients find servers.
    pub(crate) fn address(&self) -> &'static str {
        if self.server.is_some() { PEER4 } else { "127.0.0.1" }
    }

    /// The proxies' processes, the client's first.
    pub(crate) fn pids(&mut self) -> Vec<u32> {
        let ends = [Some(&mut self.client), self.server.as_mut()];
        ends.into_iter().flatten().filter_map(|end| end.proxy.pid()).collect()
    }

    /// The memory of the client's proxy now; nothing without one.
    pub(crate) fn memory(&mut self) -> Result<Memory> {
        self.client.proxy.pid().map_or_else(|| Ok(Memory::default()), Memory::of)
    }

    /// What each proxy on the way says it has served.
    pub(crate) fn served(&self) -> Result<Vec<Served>> {
        let ends = [(Some(&self.client), Side::Client), (self.server.as_ref(), Side::Server)];
        let served = ends.into_iter().filter_map(|(end, side)| {
            let End { proxy, netns } = end?;
            proxy.served(netns, self.mode, side).transpose()
        });
        served.collect()
    }
}

// === impl End ===

impl End {
    fn start(netns: Netns, node: Option<&Mounts>, mode: Mode, suite: Suite, token: &Token) -> Result<Self> {
        // A new connection a few thousand times a second: all ports, and no wait before one is used again.
        netns.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
        netns.sysctl("net/ipv4/tcp_max_tw_buckets", "16");
        let place = node.map_or_else(|| netns.place(), |node| netns.place().in_mounts(node));
        Ok(Self { proxy: Proxy::start(&place, &netns, mode, suite, token)?, netns })
    }

    /// Where its programs run.
    fn place(&self) -> Place {
        self.proxy.place(&self.netns)
    }
}
