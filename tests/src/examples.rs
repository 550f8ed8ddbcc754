//! What is in deploy/examples.

use std::fs;
use std::path::{Path, PathBuf};

/// The directory of the examples.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples")
}

/// The configurations in the ConfigMaps of a manifest: literal blocks under the key `sidecar.yaml`.
pub fn configurations(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let mut found = Vec::new();
    for document in text.split("\n---\n") {
        let Some((_, block)) = document.split_once("\n  sidecar.yaml: |\n") else { continue };
        let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        let lines: Vec<&str> = lines.map(|line| line.get(4..).unwrap_or_default()).collect();
        found.push(lines.join("\n") + "\n");
    }
    found
}
