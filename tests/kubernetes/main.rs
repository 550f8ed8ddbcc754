//! On a real Kubernetes, which `cargo xtask kubernetes-test` starts; tests/README.md says how.

mod agent_mode;
mod bypass;
mod cluster;
mod examples;
mod init_mode;
mod install;
mod lifecycle;
mod load;
mod measure;
mod node;
mod reboot;
mod workload;
