//! The servers that people and orchestrators ask: admin (port and Unix socket), health, metrics.
pub mod endpoints;
pub mod health;
pub mod metrics;
pub mod readiness;
pub mod serve;
