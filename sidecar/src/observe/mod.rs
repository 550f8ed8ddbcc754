//! What the proxy shows of itself: the connection table, metrics, the access log and its own log.
pub mod access_log;
pub mod close_reason;
pub mod connection;
pub mod log;
pub mod metrics;
pub mod probes;
pub mod process;
pub mod programs;
pub mod recorded;
pub mod request_line;
pub mod requests;
pub mod table;
