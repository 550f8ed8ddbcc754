//! What the kernel lets this process do (capabilities(7)).

use std::fs;

/// A capability; the value is its bit (include/uapi/linux/capability.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Capability {
    /// Network administration: attaching to sockets' hooks, marks, rules.
    NetAdmin = 12,
    /// Nearly everything: mounts, namespaces; holds `Bpf` and `Perfmon` as well.
    SysAdmin = 21,
    /// Tracing, and BPF programs that do arithmetic on pointers.
    Perfmon = 38,
    /// Loading BPF programs and maps.
    Bpf = 39,
}

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities(u64);

impl Capability {
    /// Those that matter here, the most needed first.
    pub const ALL: [Self; 4] = [Self::Bpf, Self::NetAdmin, Self::Perfmon, Self::SysAdmin];

    /// Its name, as setpriv(1) and Kubernetes know it but for the prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

impl Capabilities {
    /// The effective set of this process; empty when /proc does not tell.
    pub fn effective() -> Self {
        parse(&fs::read_to_string("/proc/self/status").unwrap_or_default()).unwrap_or(Self(0))
    }

    /// True when the set holds it, in its own name or in `CAP_SYS_ADMIN`'s, which came first.
    pub fn allow(self, capability: Capability) -> bool {
        let covered = matches!(capability, Capability::Bpf | Capability::Perfmon);
        self.holds(capability) || covered && self.holds(Capability::SysAdmin)
    }

    fn holds(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }
}

fn parse(status: &str) -> Option<Capabilities> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok().map(Capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        let status = "CapPrm:\t000001ffffffffff\nCapEff:\t0000008000001000\nCapBnd:\t000001ffffffffff\n";
        let set = parse(status).unwrap();
        let allowed = Capability::ALL.map(|capability| set.allow(capability));
        assert_eq!(allowed, [true, true, false, false]);
    }

    #[test]
    fn the_administrator_may_load_programs() {
        let set = parse("CapEff:\t0000000000200000\n").unwrap();
        let allowed = Capability::ALL.map(|capability| set.allow(capability));
        assert_eq!(allowed, [true, false, true, true]);
    }
}
