//! Which route a request or connection takes, and what its filters make of it, as the Gateway API 1.5 says. Pure:
//! nothing here does I/O or keeps state.

pub mod cors;
pub mod headers;
mod hosts;
mod matching;
mod order;
pub mod redirect;
pub mod rewrite;
mod set;
mod table;
mod tcp;
pub mod weights;

#[cfg(test)]
mod tests;

pub use hosts::without_port;
pub use set::{Found, RequestParts, RouteSet};
pub use table::RouteTable;
pub use tcp::{TcpRules, TlsRules};
