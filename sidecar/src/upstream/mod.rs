//! Connections to where traffic goes.
pub mod backend;
pub mod connect;
