//! The harness of sidecar's tests: network namespaces, cgroups, real servers and the `sidecar` binary itself, each
//! behind a guard that undoes it when it is dropped, also by a panic.
//!
//! A scenario is a function that builds a [`Pair`], starts servers and a [`Sidecar`], and looks at what programs
//! under it observe:
//!
//! ```no_run
//! use sidecar_tests::{Config, Kind, Mode, PEER4, Pair, Sidecar, serve};
//!
//! let net = Pair::new("example");
//! let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
//! let sidecar = Sidecar::start(&net.pod, &Config::new(Mode::Ebpf));
//! let seen = sidecar.probe(&["connect", PEER4, "9000", "--read"]);
//! assert_eq!(seen["peername"], format!("{PEER4}:9000"));
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a harness fails by panicking: the stack trace names the step of the test"
)]

mod certificates;
mod cgroup;
mod config;
mod connection;
mod control;
mod environment;
mod examples;
mod footprint;
mod init;
mod mounts;
mod netns;
mod pair;
mod place;
mod probe;
mod process;
pub mod require;
mod servers;
mod sidecar;
mod wait;

pub use certificates::{Authority, Certificate};
pub use cgroup::Cgroup;
pub use config::{Config, Mode};
pub use connection::{Connection, canonical};
pub use environment::{torture, transfer_bytes};
pub use examples::{configurations, examples};
pub use footprint::{Footprint, rules};
pub use init::Init;
pub use mounts::Mounts;
pub use netns::Netns;
pub use pair::{PEER4, PEER6, POD4, POD6, Pair};
pub use place::Place;
pub use probe::{Probe, ask_http, probe};
pub use process::{Finished, Program};
pub use require::tool;
pub use servers::{
    Dns, Envoy, Kind, Nginx, Postgres, Redis, http_server, listen, listen_twice, python, serve,
    serve_backends, serve_http,
};
pub use sidecar::{Sidecar, binary, binary_for_everyone, cli};
pub use wait::{DEADLINE, eventually};
