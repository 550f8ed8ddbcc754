//! What is decided about requests before and after they go upstream. But for key sets and external authorizers nothing here
//! waits or speaks to the network: time and randomness come from the caller.

pub mod access;
pub mod circuit;
pub mod fault;
pub mod path;
pub mod rate_limit;
pub mod retry;
pub mod retry_budget;
