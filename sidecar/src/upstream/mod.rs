//! Connections to where traffic goes.
pub mod backend;
pub mod balance;
mod check;
pub mod cluster;
pub mod connect;
pub mod health;
pub mod names;
pub mod outlier;
