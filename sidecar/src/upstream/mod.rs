//! Connections to where traffic goes.
pub mod backend;
pub mod balance;
pub mod connect;
pub mod health;
pub mod outlier;
