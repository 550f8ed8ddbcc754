//! What the machine offers: capabilities, cgroups, mounts, the listeners of other processes.
pub mod capabilities;
pub mod cgroup;
pub mod mounts;
pub mod seed;
