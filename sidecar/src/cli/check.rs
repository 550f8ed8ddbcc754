//! `sidecar check`: can this kernel, cgroup and capability set do it?

use crate::bpf::loader;

/// `sidecar check`
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Checks.
pub fn run(_args: &Args) -> anyhow::Result<u8> {
    let kernel = loader::load(0, 1)?;
    println!("{:?}", kernel.features);
    Ok(super::DONE)
}
