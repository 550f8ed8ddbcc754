//! The kernel half's decisions, which are pure: the same file that the programs are built from.

#[allow(
    unreachable_pub,
    clippy::inline_always,
    clippy::struct_excessive_bools,
    reason = "a file of another crate, with lints of its own"
)]
#[path = "../../sidecar-ebpf/src/decide.rs"]
mod decide;

use decide::{Facts, inbound, outbound};
use sidecar_common::settings::{Settings, Verdict, flag, port_rule};

const PLAIN: Facts = Facts { loopback: false, link_local: false, port: 0, included: false, excluded: false };

fn settings(flags: u32) -> Settings {
    Settings { flags, ..Settings::default() }
}

#[test]
fn without_lists_all_is_captured() {
    assert_eq!(outbound(&settings(0), &PLAIN), None);
    assert_eq!(inbound(&settings(0), &PLAIN), None);
}

#[test]
fn loopback_is_captured_outbound_on_request_and_never_inbound() {
    let facts = Facts { loopback: true, ..PLAIN };
    assert_eq!(outbound(&settings(0), &facts), Some(Verdict::Loopback));
    assert_eq!(outbound(&settings(flag::CAPTURE_LOOPBACK), &facts), None);
    assert_eq!(inbound(&settings(flag::CAPTURE_LOOPBACK), &facts), Some(Verdict::Loopback));
}

#[test]
fn exclusion_wins() {
    let listed = settings(flag::OUTBOUND_INCLUDE_PORTS | flag::OUTBOUND_INCLUDE_CIDRS);
    let both = Facts { port: port_rule::INCLUDE, included: true, ..PLAIN };
    assert_eq!(outbound(&listed, &both), None);
    let port = Facts { port: port_rule::INCLUDE | port_rule::EXCLUDE, included: true, ..PLAIN };
    assert_eq!(outbound(&listed, &port), Some(Verdict::NotSelected));
    let network = Facts { excluded: true, ..both };
    assert_eq!(outbound(&listed, &network), Some(Verdict::NotSelected));
}

#[test]
fn a_list_leaves_out_what_it_does_not_name() {
    let ports = settings(flag::INBOUND_INCLUDE_PORTS);
    assert_eq!(inbound(&ports, &PLAIN), Some(Verdict::NotSelected));
    assert_eq!(inbound(&ports, &Facts { port: port_rule::INCLUDE, ..PLAIN }), None);
    let networks = settings(flag::OUTBOUND_INCLUDE_CIDRS);
    assert_eq!(outbound(&networks, &PLAIN), Some(Verdict::NotSelected));
    assert_eq!(outbound(&networks, &Facts { included: true, ..PLAIN }), None);
}

#[test]
fn link_local_is_left_alone() {
    let facts = Facts { link_local: true, ..PLAIN };
    assert_eq!(outbound(&settings(0), &facts), Some(Verdict::LinkLocal));
    assert_eq!(inbound(&settings(0), &facts), Some(Verdict::LinkLocal));
}
