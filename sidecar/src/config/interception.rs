//! `spec.interception` of a `ProxyConfig`.

use ipnet::IpNet;

use super::check::Check;
use super::model::{Bypass, BypassRule, Inbound, Interception, Outbound};
use super::raw::{self, Text};
use super::value::{choice, network, port};

pub(super) fn read(check: &mut Check<'_>, raw: raw::Interception) -> Interception {
    let default = Interception::default();
    let outbound = outbound(check, &raw.outbound.unwrap_or_default());
    let inbound = inbound(check, &raw.inbound.unwrap_or_default());
    Interception {
        mode: check.value_or("spec.interception.mode", raw.mode.as_ref(), default.mode, choice::parse),
        bypass: check.value_or(
            "spec.interception.bypass",
            raw.bypass.as_ref(),
            default.bypass,
            choice::parse,
        ),
        bypass_rules: bypass_rules(check, &raw.bypass_rules),
        bypass_same_node: check.value_or(
            "spec.interception.bypassSameNode",
            raw.bypass_same_node.as_ref(),
            default.bypass_same_node,
            choice::parse_bool,
        ),
        on_proxy_down: check.value_or(
            "spec.interception.onProxyDown",
            raw.on_proxy_down.as_ref(),
            default.on_proxy_down,
            choice::parse,
        ),
        outbound,
        inbound,
    }
}

fn bypass_rules(check: &mut Check<'_>, raw: &[raw::BypassRule]) -> Vec<BypassRule> {
    let rule = |(index, raw): (usize, &raw::BypassRule)| {
        let at = |field: &str| format!("spec.interception.bypassRules[{index}].{field}");
        BypassRule {
            ports: check.set(&at("ports"), &raw.ports, port::parse),
            programs: check.set(&at("programs"), &raw.programs, program_name),
            cgroups: check.set(&at("cgroups"), &raw.cgroups, cgroup_path),
            bypass: check.value_or(&at("bypass"), Some(&raw.bypass), Bypass::default(), choice::parse),
        }
    };
    raw.iter().enumerate().map(rule).collect()
}

/// The kernel cuts a program's name off after so many bytes (`TASK_COMM_LEN`).
const COMM_BYTES: usize = 15;

fn program_name(text: &str) -> Result<String, &'static str> {
    match text.len() {
        1..=COMM_BYTES => Ok(text.to_owned()),
        _ => Err("write the name as ps -o comm shows it: 1 to 15 bytes"),
    }
}

fn cgroup_path(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("write a path that begins with /") }
}

fn outbound(check: &mut Check<'_>, raw: &raw::Outbound) -> Outbound {
    let at = |field: &str| format!("spec.interception.outbound.{field}");
    let default = Outbound::default();
    Outbound {
        capture_loopback: check.value_or(
            &at("captureLoopback"),
            raw.capture_loopback.as_ref(),
            default.capture_loopback,
            choice::parse_bool,
        ),
        include_cidrs: included(check, &at("includeCIDRs"), &raw.include_cidrs, default.include_cidrs),
        exclude_cidrs: check.set(&at("excludeCIDRs"), &raw.exclude_cidrs, network::parse),
        include_ports: check.set(&at("includePorts"), &raw.include_ports, port::parse),
        exclude_ports: check.set(&at("excludePorts"), &raw.exclude_ports, port::parse),
    }
}

fn inbound(check: &mut Check<'_>, raw: &raw::Inbound) -> Inbound {
    let at = |field: &str| format!("spec.interception.inbound.{field}");
    let default = Inbound::default();
    Inbound {
        include_ports: check.set(&at("includePorts"), &raw.include_ports, port::parse),
        exclude_ports: check.set(&at("excludePorts"), &raw.exclude_ports, port::parse),
        include_cidrs: included(check, &at("includeCIDRs"), &raw.include_cidrs, default.include_cidrs),
        exclude_cidrs: check.set(&at("excludeCIDRs"), &raw.exclude_cidrs, network::parse),
    }
}

/// An empty list includes all, as it does for ports.
fn included(check: &mut Check<'_>, field: &str, texts: &[Text], all: Vec<IpNet>) -> Vec<IpNet> {
    if texts.is_empty() { all } else { check.set(field, texts, network::parse) }
}
