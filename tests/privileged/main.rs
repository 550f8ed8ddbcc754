//! Black-box scenarios on the real kernel: the `sidecar` binary between real programs, in network namespaces of its
//! own. Each scenario is a function of the interception's mode; `in_modes!` makes a test of it for each.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "tests fail by panicking"
)]

mod admin;
mod agent;
mod bad_input;
mod bounds;
mod call_itself;
mod children;
mod connect;
mod connections;
mod detach;
mod dns;
mod early_answer;
mod envoy;
mod fast_open;
mod half_close;
mod hazards;
mod http;
mod init;
mod intercepting;
mod kill;
mod link_local;
mod listener;
mod listeners;
mod lists;
mod many;
mod names;
mod neighbour;
mod original_destination;
mod real_programs;
mod refuse;
mod reload;
mod restart;
mod routes;
mod run;
mod server_first;
mod several;
mod slow_readers;
mod timeouts;
mod torture;
mod transfer;
mod untouched;

use serde_json::Value;
use sidecar_tests::canonical;

/// Whether a proxy was between a probe and the `Peername` server that answered it: without one, the server sees the
/// probe's own address.
fn captured(seen: &Value) -> bool {
    let address =
        |value: &Value| value.as_str().and_then(canonical).unwrap_or_else(|| panic!("no answer: {seen}"));
    address(&seen["sockname"]) != address(&seen["reply"]["accept"])
}

/// `host:port`, with brackets where they belong.
fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
