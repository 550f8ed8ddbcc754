//! `cargo xtask build`: both halves, in one binary.

use crate::setup;
use crate::util::{self, binary, cargo};
use anyhow::Result;
use std::path::PathBuf;

/// Builds `sidecar` and says where it is.
pub(crate) fn run() -> Result<PathBuf> {
    setup::kernel_half()?;
    setup::libraries()?;
    util::run(cargo().args(["build", "--release", "--package=sidecar"]))?;
    Ok(binary())
}
