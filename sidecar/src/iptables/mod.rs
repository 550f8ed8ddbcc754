//! `interception: iptables`: the nat rules that Istio's init container would write, in the network namespace of the
//! calling thread. A fallback for kernels without the BPF hooks, and the other side of the benchmark.
//!
//! Programs are run and waited for: everything here blocks, for as long as five seconds when somebody else holds the
//! xtables lock. The children inherit the calling thread's network namespace; [`Rules`] must be removed, or dropped,
//! on a thread of the same one.
//!
//! # What the rules do
//!
//! An instance owns two chains of the nat table, IPv4 and IPv6: `..._OUT`, called first thing in OUTPUT, and `..._IN`,
//! called first thing in PREROUTING. First, since a Service address must be seen before kube-proxy translates it.
//! Only the packet that opens a connection (`--syn`) is sent there: a connection from before the rules is new to
//! conntrack as well, and would otherwise be torn away from its peer in mid-stream.
//!
//! REDIRECT changes the destination to 127.0.0.1 or `::1` in OUTPUT, and in PREROUTING to the address of the interface
//! on which the packet came. So the outbound listeners may stay on loopback, but **inbound listeners must be bound
//! to the unspecified address**, one a family. `SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST` give what was dialled.
//!
//! What crosses `lo` passes OUTPUT alone: conntrack remembers that the connection has been translated (or, for
//! the proxy's, that it must not be), and PREROUTING is not asked again. So the proxy reaches the program at the Pod's
//! own address, and is not captured as inbound.
//!
//! # Whose connections are captured
//!
//! `sidecar run` uses cgroups for both questions: [`Spec::scope`] is the program's cgroup and [`Exempt::Cgroup`] the
//! proxy's. That is the same identity as in eBPF mode (the cgroup in which a socket was created), it leaves the rest of
//! the machine alone, and both the nft and the legacy variant of iptables can do it on unified and on hybrid
//! hierarchies. The kernel resolves a path when the rule is written: the cgroup must exist by then.
//! [`Exempt::Uid`] is for Pods, where the proxy has a user of its own. [`Exempt::Mark`] is for kernels without the
//! cgroup match: the proxy then needs `CAP_NET_ADMIN` to mark its sockets, and without a scope the whole namespace
//! is captured, so that the namespace should be the program's own.
//!
//! # What differs from eBPF mode
//!
//! - The proxy gone and the rules there: connections are refused. There is no `onProxyDown: open`.
//! - Packets that arrive belong to no socket yet, so that inbound knows no scope: name the ports, or own the namespace.
//! - The program sees the proxy as its client, not the real one.

mod apply;
mod rules;
#[cfg(test)]
mod tests;

use std::process::ExitStatus;
use std::{io, thread};

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};

use apply::Ipv6;
use rules::{Chains, Family};

/// What to capture, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// The instance; its chains are named after it.
    pub instance: String,
    /// The proxy listens here on 127.0.0.1 and `[::1]`.
    pub outbound_port: u16,
    /// The proxy listens here on 0.0.0.0 and `[::]`. None: inbound is not captured.
    pub inbound_port: Option<u16>,
    /// Whose connections are the proxy's own.
    pub exempt: Exempt,
    /// Outbound: only sockets of this cgroup and those below it, a path from the root of the cgroup2 hierarchy. None:
    /// all of the namespace.
    pub scope: Option<String>,
    /// Outbound: also destinations in 127.0.0.0/8 and `::1`.
    pub capture_loopback: bool,
    /// Outbound: only these networks. Empty: all. A list that names networks of one family leaves out the other.
    pub include_cidrs: Vec<IpNet>,
    /// Outbound: not these networks, whatever is included.
    pub exclude_cidrs: Vec<IpNet>,
    /// Outbound: only these ports, and only in the included networks. Empty: all.
    pub include_outbound_ports: Vec<u16>,
    /// Outbound: not these ports, whatever is included.
    pub exclude_outbound_ports: Vec<u16>,
    /// Inbound: only these ports. Empty: all but 22 and 15000 to 15090, which are ssh's and a sidecar's own.
    pub include_inbound_ports: Vec<u16>,
    /// Inbound: not these ports, whatever is included.
    pub exclude_inbound_ports: Vec<u16>,
}

/// How the proxy's own connections are told from others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exempt {
    /// By the user that opened them.
    Uid(u32),
    /// By the cgroup in which they were opened, or one below: a path from the root of the cgroup2 hierarchy.
    Cgroup(String),
    /// By `SO_MARK`.
    Mark(u32),
}

/// Rules that are in place; removed by [`Rules::remove`] or on drop.
#[must_use = "dropping this removes the rules"]
#[derive(Debug)]
pub struct Rules {
    chains: Chains,
    ipv6_skipped: Option<String>,
    in_place: bool,
}

/// What `interception: iptables` finds on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Available {
    /// As the program says it: `iptables-restore v1.8.9 (nf_tables)`.
    pub version: String,
    /// Why IPv6 would be left alone; None when it would not.
    pub ipv6_skipped: Option<String>,
    /// Whether [`Spec::scope`] and [`Exempt::Cgroup`] work.
    pub cgroup_match: bool,
}

/// Why rules could not be written or removed.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// A program is not installed.
    #[error("{program}: not found: install the iptables package, or use `interception: ebpf`")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program refused.
    #[error("{program}: nat table: {stderr} ({status})")]
    Refused {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said, on one line.
        stderr: String,
    },
    /// A cgroup path that the input of iptables-restore cannot hold.
    #[error("cgroup path {0:?}: control characters cannot be written in a rule")]
    CgroupPath(String),
    /// No network namespace to try the rules in.
    #[error("cannot make a network namespace to try iptables in")]
    Scratch(#[source] io::Error),
}

/// Writes the rules of `spec`, after removing what a crashed instance of that name left behind.
///
/// All of one family's rules come at once. When IPv6's are refused, IPv4's are removed again. When the kernel has no
/// IPv6, or the machine no working ip6tables, IPv4 goes alone: see [`Rules::ipv6_skipped`].
pub fn install(spec: &Spec) -> Result<Rules, IptablesError> {
    install_text(
        Chains::of(&spec.instance),
        &rules::install(spec, Family::V4)?,
        &rules::install(spec, Family::V6)?,
    )
}

/// Removes what an instance left behind, however much of it is there. False: there was nothing.
pub fn remove_instance(instance: &str) -> Result<bool, IptablesError> {
    let chains = Chains::of(instance);
    let v4 = remove_chains(&chains, Family::V4);
    let v6 = match apply::ipv6() {
        Ipv6::Usable => remove_chains(&chains, Family::V6),
        Ipv6::Off => Ok(false),
        Ipv6::Unusable(error) => {
            tracing::warn!(instance, %error, "IPv6 rules, if any, stay");
            Ok(false)
        }
    };
    Ok(v4? | v6?)
}

/// Tries the rules in a network namespace made for it. Needs what [`install`] needs, and `CAP_SYS_ADMIN`.
pub fn available() -> Result<Available, IptablesError> {
    let attempt = || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| IptablesError::Scratch(errno.into()))?;
        let version = apply::version()?;
        let mut spec = Spec::probe(Exempt::Cgroup("/".into()));
        let (rules, cgroup_match) = match install(&spec) {
            Err(IptablesError::Refused { .. }) => {
                spec.exempt = Exempt::Uid(0);
                (install(&spec)?, false)
            }
            other => (other?, true),
        };
        let ipv6_skipped = rules.ipv6_skipped.clone();
        rules.remove()?;
        Ok(Available { version, ipv6_skipped, cgroup_match })
    };
    // unshare() moves the calling thread: it takes one that nobody else uses, and the namespace ends with it.
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("iptables-probe".into()).spawn_scoped(scope, attempt);
        match thread.map_err(IptablesError::Scratch)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

// === impl ===

impl Spec {
    /// Something of everything that [`install`] relies on.
    fn probe(exempt: Exempt) -> Self {
        Self {
            instance: "probe".into(),
            outbound_port: 15001,
            inbound_port: Some(15006),
            exempt,
            scope: None,
            capture_loopback: false,
            include_cidrs: Vec::new(),
            exclude_cidrs: Vec::new(),
            include_outbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            include_inbound_ports: Vec::new(),
            exclude_inbound_ports: Vec::new(),
        }
    }
}

impl Rules {
    /// Why IPv6 is left alone; None when it is not.
    pub fn ipv6_skipped(&self) -> Option<&str> {
        self.ipv6_skipped.as_deref()
    }

    /// Removes the rules. Connections that were redirected stay so until they close.
    pub fn remove(mut self) -> Result<(), IptablesError> {
        self.take_away()
    }

    /// Lets the rules stay (`sidecar init`); [`remove_instance`] removes them.
    pub fn leave(mut self) {
        self.in_place = false;
    }

    fn take_away(&mut self) -> Result<(), IptablesError> {
        if !std::mem::take(&mut self.in_place) {
            return Ok(());
        }
        let v4 = remove_chains(&self.chains, Family::V4);
        let v6 = match self.ipv6_skipped {
            None => remove_chains(&self.chains, Family::V6),
            Some(_) => Ok(false),
        };
        v4.and(v6).map(|_| ())
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        if let Err(error) = self.take_away() {
            tracing::error!(%error, chains = ?self.chains, "iptables rules stay: run `sidecar detach`");
        }
    }
}

fn install_text(chains: Chains, v4: &str, v6: &str) -> Result<Rules, IptablesError> {
    remove_chains(&chains, Family::V4)?;
    apply::restore(Family::V4, v4)?;
    // From here on, an early return removes what is in place.
    let mut rules = Rules { chains, ipv6_skipped: Some("not reached".into()), in_place: true };
    rules.ipv6_skipped = match apply::ipv6() {
        Ipv6::Usable => {
            remove_chains(&rules.chains, Family::V6)?;
            apply::restore(Family::V6, v6)?;
            None
        }
        Ipv6::Off => Some("the kernel has no IPv6".into()),
        Ipv6::Unusable(error) => {
            tracing::warn!(%error, "IPv6 connections are not captured");
            Some(error.to_string())
        }
    };
    Ok(rules)
}

fn remove_chains(chains: &Chains, family: Family) -> Result<bool, IptablesError> {
    match rules::remove(chains, &apply::save(family)?) {
        Some(text) => apply::restore(family, &text).map(|()| true),
        None => Ok(false),
    }
}
