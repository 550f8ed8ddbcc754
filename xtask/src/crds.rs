//! `cargo xtask crds`: the schemas of our kinds for Kubernetes, made of the code that reads them.

use crate::setup;
use crate::util::{cargo, run as run_command, workspace};
use anyhow::Result;

/// Writes deploy/kubernetes/base/crds, and the same into the Helm chart.
pub(crate) fn run() -> Result<()> {
    setup::kernel_half()?;
    setup::libraries()?;
    for directory in ["deploy/kubernetes/base/crds", "deploy/helm/sidecar/crds"] {
        let mut example = cargo();
        example.args(["run", "--quiet", "--package=sidecar", "--example=crds", "--"]);
        run_command(example.arg(workspace().join(directory)))?;
    }
    Ok(())
}
