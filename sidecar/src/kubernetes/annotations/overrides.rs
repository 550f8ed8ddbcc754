//! What a Pod sets on its own: annotations for people, flags of `sidecar init` and `sidecar proxy` for what was injected.

use clap::ValueEnum;
use ipnet::IpNet;

use super::{AnnotationError, Annotations, Selection, read};
use crate::config::value::choice;
use crate::config::{Bypass, Inbound, Interception, OnProxyDown, Outbound};

/// What holds instead of the configuration's `spec.interception`. A list replaces the configuration's. An empty list of
/// what is included captures nothing that way, and so does an exclusion of `*`.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = "Instead of what the configuration says")]
pub struct Overrides {
    /// Whether bytes may skip the TCP stack
    #[arg(long, value_name = "WORD")]
    pub bypass: Option<Bypass>,
    /// What happens to captured traffic while no proxy listens
    #[arg(long, value_name = "WORD")]
    pub on_proxy_down: Option<OnProxyDown>,
    /// Whether connections to loopback are captured
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub capture_loopback: Option<bool>,
    /// Ports of the application that are captured: 80,443; * for all; empty for none
    #[arg(long, value_name = "PORTS")]
    pub include_inbound_ports: Option<Selection<u16>>,
    /// Ports of the application that are not
    #[arg(long, value_name = "PORTS")]
    pub exclude_inbound_ports: Option<Selection<u16>>,
    /// Ports of destinations that are captured; * for all; empty for none
    #[arg(long, value_name = "PORTS")]
    pub include_outbound_ports: Option<Selection<u16>>,
    /// Ports of destinations that are not
    #[arg(long, value_name = "PORTS")]
    pub exclude_outbound_ports: Option<Selection<u16>>,
    /// Networks of destinations that are captured: 10.0.0.0/8,fd00::/8; * for all; empty for none
    #[arg(long, value_name = "NETWORKS")]
    pub include_outbound_cidrs: Option<Selection<IpNet>>,
    /// Networks of destinations that are not
    #[arg(long, value_name = "NETWORKS")]
    pub exclude_outbound_cidrs: Option<Selection<IpNet>>,
}

impl Overrides {
    /// What a Pod's annotations say.
    pub fn from_annotations(annotations: &Annotations) -> Result<Self, AnnotationError> {
        /// Under either of its names.
        macro_rules! either {
            ($ours:literal, $istios:literal) => {
                match read(annotations, concat!("sidecar.dev/", $ours), str::parse)? {
                    Some(ours) => Some(ours),
                    None => read(annotations, concat!("traffic.sidecar.istio.io/", $istios), str::parse)?,
                }
            };
        }
        // To Istio, an empty one of these says nothing, as when it is not there.
        let istios = read(annotations, "traffic.sidecar.istio.io/includeOutboundPorts", str::parse)?
            .filter(|ports| *ports != Selection::These(Vec::new()));
        let include_outbound_ports =
            read(annotations, "sidecar.dev/include-outbound-ports", str::parse)?.or(istios);
        Ok(Self {
            bypass: read(annotations, "sidecar.dev/bypass", choice::parse)?,
            on_proxy_down: read(annotations, "sidecar.dev/on-proxy-down", choice::parse)?,
            capture_loopback: read(annotations, "sidecar.dev/capture-loopback", choice::parse_bool)?,
            include_inbound_ports: either!("include-inbound-ports", "includeInboundPorts"),
            exclude_inbound_ports: either!("exclude-inbound-ports", "excludeInboundPorts"),
            include_outbound_ports,
            exclude_outbound_ports: either!("exclude-outbound-ports", "excludeOutboundPorts"),
            include_outbound_cidrs: either!("include-outbound-cidrs", "includeOutboundIPRanges"),
            exclude_outbound_cidrs: either!("exclude-outbound-cidrs", "excludeOutboundIPRanges"),
        })
    }

    /// Puts it in the place of what the configuration says.
    pub fn apply(&self, interception: &mut Interception) {
        interception.bypass = self.bypass.unwrap_or(interception.bypass);
        interception.on_proxy_down = self.on_proxy_down.unwrap_or(interception.on_proxy_down);
        let Outbound { capture_loopback, include_cidrs, exclude_cidrs, include_ports, exclude_ports } =
            &mut interception.outbound;
        *capture_loopback = self.capture_loopback.unwrap_or(*capture_loopback);
        let some = [
            exclude(self.exclude_outbound_cidrs.as_ref(), exclude_cidrs),
            include(self.include_outbound_ports.as_ref(), include_ports, Vec::new()),
            exclude(self.exclude_outbound_ports.as_ref(), exclude_ports),
            include(self.include_outbound_cidrs.as_ref(), include_cidrs, Outbound::default().include_cidrs),
        ];
        if some.contains(&false) {
            *exclude_cidrs = Outbound::default().include_cidrs;
        }
        let Inbound { include_ports, exclude_ports, exclude_cidrs, .. } = &mut interception.inbound;
        let some = [
            include(self.include_inbound_ports.as_ref(), include_ports, Vec::new()),
            exclude(self.exclude_inbound_ports.as_ref(), exclude_ports),
        ];
        if some.contains(&false) {
            *exclude_cidrs = Inbound::default().include_cidrs;
        }
    }

    /// The flags that say the same to `sidecar init` and `sidecar proxy`, one an argument.
    pub fn to_args(&self) -> Vec<String> {
        /// As it is written.
        fn shown<T: ToString>(value: Option<&T>) -> Option<String> {
            value.map(ToString::to_string)
        }
        fn word(value: Option<impl ValueEnum>) -> Option<String> {
            value.and_then(|value| Some(value.to_possible_value()?.get_name().to_owned()))
        }
        let flags = [
            ("bypass", word(self.bypass)),
            ("on-proxy-down", word(self.on_proxy_down)),
            ("capture-loopback", shown(self.capture_loopback.as_ref())),
            ("include-inbound-ports", shown(self.include_inbound_ports.as_ref())),
            ("exclude-inbound-ports", shown(self.exclude_inbound_ports.as_ref())),
            ("include-outbound-ports", shown(self.include_outbound_ports.as_ref())),
            ("exclude-outbound-ports", shown(self.exclude_outbound_ports.as_ref())),
            ("include-outbound-cidrs", shown(self.include_outbound_cidrs.as_ref())),
            ("exclude-outbound-cidrs", shown(self.exclude_outbound_cidrs.as_ref())),
        ];
        flags.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))).collect()
    }
}

/// Takes an inclusion over; `all` stands for `*`. False: it names nothing.
fn include<T: Clone>(selection: Option<&Selection<T>>, list: &mut Vec<T>, all: Vec<T>) -> bool {
    match selection {
        None => true,
        Some(Selection::All) => {
            *list = all;
            true
        }
        Some(Selection::These(items)) if items.is_empty() => false,
        Some(Selection::These(items)) => {
            list.clone_from(items);
            true
        }
    }
}

/// Takes an exclusion over. False: it leaves nothing.
fn exclude<T: Clone>(selection: Option<&Selection<T>>, list: &mut Vec<T>) -> bool {
    if let Some(Selection::These(items)) = selection {
        list.clone_from(items);
    }
    !matches!(selection, Some(Selection::All))
}
