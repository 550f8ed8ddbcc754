//! The userspace half of sidecar.
pub mod net;
