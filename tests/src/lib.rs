//! The harness of sidecar's tests.
