//! Whether a connection is captured: pure, from facts that the caller gathered.

use sidecar_common::settings::{Settings, Verdict, flag, port_rule};

/// What is known of a connection before it is decided on.
pub struct Facts {
    /// The destination is loopback (outbound), or the packet came in through it (inbound).
    pub loopback: bool,
    /// The destination or the client is an IPv6 link-local address.
    pub link_local: bool,
    /// The bits of [`port_rule`] for the port.
    pub port: u32,
    /// An included network holds the address.
    pub included: bool,
    /// An excluded network holds the address.
    pub excluded: bool,
}

/// Outbound, for a program that is not exempt. `None`: capture it.
#[inline(always)]
pub fn outbound(settings: &Settings, facts: &Facts) -> Option<Verdict> {
    if facts.loopback && settings.flags & flag::CAPTURE_LOOPBACK == 0 {
        return Some(Verdict::Loopback);
    }
    if facts.link_local {
        return Some(Verdict::LinkLocal);
    }
    let ports_listed = settings.flags & flag::OUTBOUND_INCLUDE_PORTS != 0;
    let networks_listed = settings.flags & flag::OUTBOUND_INCLUDE_CIDRS != 0;
    selected(facts, ports_listed, networks_listed)
}

/// Inbound, for a port on which an armed program listens. `None`: steer it.
#[inline(always)]
pub fn inbound(settings: &Settings, facts: &Facts) -> Option<Verdict> {
    if facts.loopback {
        return Some(Verdict::Loopback);
    }
    if facts.link_local {
        return Some(Verdict::LinkLocal);
    }
    let ports_listed = settings.flags & flag::INBOUND_INCLUDE_PORTS != 0;
    let networks_listed = settings.flags & flag::INBOUND_INCLUDE_CIDRS != 0;
    selected(facts, ports_listed, networks_listed)
}

/// Exclusion wins over inclusion, as in Istio's rules; a list that is not given includes all.
#[inline(always)]
fn selected(facts: &Facts, ports_listed: bool, networks_listed: bool) -> Option<Verdict> {
    let port_out =
        facts.port & port_rule::EXCLUDE != 0 || ports_listed && facts.port & port_rule::INCLUDE == 0;
    let network_out = facts.excluded || networks_listed && !facts.included;
    (port_out || network_out).then_some(Verdict::NotSelected)
}
