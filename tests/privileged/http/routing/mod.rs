//! Which backend gets a request or connection, and what is changed on the way.

mod connections;
mod filters;
pub(super) mod grpc;
mod matching;
mod services;
mod timeouts;
mod weights;
