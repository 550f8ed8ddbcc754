//! Writes the custom resource definitions into a directory: `cargo xtask crds` runs it.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let directory: PathBuf = std::env::args_os().nth(1).map_or_else(|| ".".into(), PathBuf::from);
    std::fs::create_dir_all(&directory)?;
    for (name, text) in sidecar::config::crd::files() {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}
