//! What the machine offers: capabilities, cgroups, mounts, network namespaces, the listeners of other processes, whom a Pod is shared with.
pub mod age;
pub mod capabilities;
pub mod cgroup;
pub mod company;
pub mod executable;
pub mod mounts;
pub mod netns;
pub mod pod_cgroup;
pub mod seed;
