//! Sockets and addresses: listening, original destinations, copying. The kernel's calls that no library wraps are in
//! [`sys`].

pub mod addrs;
pub mod copy;
pub mod io;
pub mod listen;
pub mod orig_dst;
#[allow(unsafe_code, reason = "socket options that no library wraps")]
pub mod sys;
