//! What is decided of requests, apart from where they go.
pub mod access;
pub mod path;
