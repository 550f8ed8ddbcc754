//! Sockets and addresses.
pub mod addrs;
