//! The userspace half of sidecar: configuration, the kernel half's loader, the proxy, and what can be seen of them.
//! ARCHITECTURE.md maps the rooms and walks a connection through them.

pub mod admin;
pub mod agent;
pub mod app;
pub mod arm;
#[allow(unsafe_code, reason = "the room that talks to the kernel half")]
pub mod bpf;
pub mod bypass;
pub mod cli;
pub mod collect;
pub mod config;
pub mod connection;
pub mod detach;
mod detect;
pub mod drain;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod host;
pub mod http;
pub mod inject;
pub mod instance;
pub mod iptables;
pub mod kernel_view;
pub mod kubernetes;
pub mod logs;
#[allow(unsafe_code, reason = "the allocator's settings, and memory given back")]
pub mod memory;
pub mod net;
pub mod observe;
pub mod opaque;
pub mod pod;
pub mod policy;
pub mod probes;
pub mod proxy;
pub mod reload;
pub mod route;
pub mod seeded;
mod seldom;
pub mod servers;
pub mod settings;
pub mod setup;
mod sni;
pub mod tls;
pub mod under_agent;
pub mod upstream;
pub mod webhook;
mod workers;
