//! The rules as text, in the language of iptables-restore(8). Pure.

use ipnet::IpNet;

use super::{Exempt, IptablesError, Spec};

/// The names of an instance's chains: at most 28 characters (`XT_EXTENSION_MAXNAMELEN` less its NUL), out of
/// `A-Za-z0-9_.-` alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chains {
    outbound: String,
    inbound: String,
}

/// An address family: each has rules of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

/// What `SIDECAR_` and `_OUT` leave of 28 characters.
const SHORT: usize = 16;

/// Ports that only an explicit list makes inbound: ssh, and those of a sidecar, as Istio has them.
const RESERVED_INBOUND: &str = "22,15000:15090";

/// A multiport match holds no more (`XT_MULTI_PORTS`).
const MULTIPORT: usize = 15;

/// The text that writes the rules of `spec`.
pub(super) fn install(spec: &Spec, family: Family) -> Result<String, IptablesError> {
    let Chains { outbound, inbound } = Chains::of(&spec.instance);
    let mut text = format!("*nat\n:{outbound} - [0:0]\n");
    if spec.inbound_port.is_some() {
        line(&mut text, &format!(":{inbound} - [0:0]"));
    }
    for rule in outbound_rules(spec, family)? {
        line(&mut text, &format!("-A {outbound} {rule}"));
    }
    line(&mut text, &format!("-I OUTPUT -p tcp --syn -j {outbound}"));
    if let Some(port) = spec.inbound_port {
        for rule in inbound_rules(spec, port) {
            line(&mut text, &format!("-A {inbound} {rule}"));
        }
        // What is only forwarded, to a container's bridge for instance, is none of our business.
        line(&mut text, &format!("-I PREROUTING -p tcp --syn -m addrtype --dst-type LOCAL -j {inbound}"));
    }
    text.push_str("COMMIT\n");
    Ok(text)
}

/// The text that removes `chains` and every jump to them, or None when `saved`, the output of iptables-save(8), has
/// none of them.
pub(super) fn remove(chains: &Chains, saved: &str) -> Option<String> {
    let own = [chains.outbound.as_str(), chains.inbound.as_str()];
    let present: Vec<&str> = saved.lines().filter_map(declared).filter(|chain| own.contains(chain)).collect();
    if present.is_empty() {
        return None;
    }
    let mut text = String::from("*nat\n");
    for jump in saved.lines().filter_map(|line| line.strip_prefix("-A ")) {
        if present.iter().any(|chain| jump.ends_with(&format!(" -j {chain}"))) {
            line(&mut text, &format!("-D {jump}"));
        }
    }
    for command in ["-F", "-X"] {
        for chain in &present {
            line(&mut text, &format!("{command} {chain}"));
        }
    }
    text.push_str("COMMIT\n");
    Some(text)
}

// === impl ===

impl Chains {
    /// The chains of an instance. A name that is short and plain stands in them as it is; others are cut, and told
    /// apart by a hash after a dot, which no plain name has.
    pub(super) fn of(instance: &str) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let id = if instance.len() <= SHORT && instance.chars().all(|c| plain(&c)) {
            instance.to_owned()
        } else {
            let head: String = instance.chars().filter(plain).take(SHORT - 9).collect();
            format!("{head}.{:08x}", fnv1a(instance.as_bytes()))
        };
        Self { outbound: format!("SIDECAR_{id}_OUT"), inbound: format!("SIDECAR_{id}_IN") }
    }
}

impl Family {
    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1/128",
        }
    }

    /// A match for each of `nets` that is of this family.
    fn destinations(self, nets: &[IpNet]) -> impl Iterator<Item = String> {
        nets.iter()
            .filter(move |net| matches!((self, net), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_))))
            .map(|net| format!("-d {}", net.trunc()))
    }
}

impl Exempt {
    fn matches(&self) -> Result<String, IptablesError> {
        Ok(match self {
            Self::Uid(uid) => format!("-m owner --uid-owner {uid}"),
            Self::Cgroup(path) => format!("-m cgroup --path {}", quoted(path)?),
            Self::Mark(mark) => format!("-m mark --mark {mark:#x}"),
        })
    }
}

fn outbound_rules(spec: &Spec, family: Family) -> Result<Vec<String>, IptablesError> {
    let mut rules = vec![format!("{} -j RETURN", spec.exempt.matches()?)];
    if let Some(path) = &spec.scope {
        rules.push(format!("-m cgroup ! --path {} -j RETURN", quoted(path)?));
    }
    if !spec.capture_loopback {
        rules.push(format!("-d {} -j RETURN", family.loopback()));
    }
    rules.extend(family.destinations(&spec.exclude_cidrs).map(|net| format!("{net} -j RETURN")));
    rules.extend(listed(&spec.exclude_outbound_ports).map(|ports| format!("{ports} -j RETURN")));

    let selected = selected(&spec.include_outbound_ports);
    let redirect = |ports: &String| format!("{ports} -j REDIRECT --to-ports {}", spec.outbound_port);
    if spec.include_cidrs.is_empty() {
        rules.extend(selected.iter().map(redirect));
    }
    for net in family.destinations(&spec.include_cidrs) {
        rules.extend(selected.iter().map(|ports| format!("{net} {}", redirect(ports))));
    }
    Ok(rules)
}

fn inbound_rules(spec: &Spec, port: u16) -> Vec<String> {
    let excluded = [&[port, spec.outbound_port], spec.exclude_inbound_ports.as_slice()].concat();
    let mut rules: Vec<String> = listed(&excluded).map(|ports| format!("{ports} -j RETURN")).collect();
    if spec.include_inbound_ports.is_empty() {
        rules.push(format!("-p tcp -m multiport --dports {RESERVED_INBOUND} -j RETURN"));
    }
    let selected = selected(&spec.include_inbound_ports);
    rules.extend(selected.iter().map(|ports| format!("{ports} -j REDIRECT --to-ports {port}")));
    rules
}

/// Matches that together take `ports`, or all TCP when none is named.
fn selected(ports: &[u16]) -> Vec<String> {
    if ports.is_empty() { vec!["-p tcp".to_owned()] } else { listed(ports).collect() }
}

/// Matches that together take `ports`.
fn listed(ports: &[u16]) -> impl Iterator<Item = String> {
    ports.chunks(MULTIPORT).map(|chunk| {
        let numbers: Vec<String> = chunk.iter().map(u16::to_string).collect();
        format!("-p tcp -m multiport --dports {}", numbers.join(","))
    })
}

/// The name of the chain that a line of iptables-save declares: `:NAME POLICY [PACKETS:BYTES]`.
fn declared(line: &str) -> Option<&str> {
    line.strip_prefix(':')?.split(' ').next()
}

/// A path as one argument, whatever a cgroup may be called: systemd's names have backslashes.
fn quoted(path: &str) -> Result<String, IptablesError> {
    if path.contains(char::is_control) {
        return Err(IptablesError::CgroupPath(path.to_owned()));
    }
    Ok(format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// FNV-1a, 32 bits: the same in every build, as `sidecar detach` needs it, which std's hashers do not promise.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests;
