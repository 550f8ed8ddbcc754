//! What the machine offers: cgroups, mounts, the listeners of other processes.
pub mod cgroup;
pub mod mounts;
pub mod seed;
