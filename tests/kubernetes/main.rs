//! On a real Kubernetes, which `cargo xtask kubernetes-test` starts; tests/README.md says how.

mod bypass;
mod cluster;
mod init_mode;
mod lifecycle;
mod load;
mod node;
mod workload;
