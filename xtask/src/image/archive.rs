//! An image as a tar archive that is both an OCI image layout and what `docker save` writes: containerd, Docker, Podman and
//! Skopeo read it. The same contents give the same bytes.

use anyhow::{Result, bail};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// The size of tar's blocks.
const BLOCK: usize = 512;

/// When everything in an image was made: nobody shall tell two builds apart by it.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// A file or directory.
pub(super) struct Entry<'a> {
    /// Its path without the first slash; directories end in one.
    pub name: &'a str,
    pub mode: u32,
    /// The user and group.
    pub owner: u32,
    pub contents: &'a [u8],
}

/// An image with one layer.
pub(super) struct Image<'a> {
    pub tag: &'a str,
    pub arch: &'a str,
    pub version: &'a str,
    pub user: u32,
    pub entrypoint: &'a str,
    /// In the order in which they are unpacked.
    pub entries: Vec<Entry<'a>>,
}

impl<'a> Entry<'a> {
    pub(super) fn directory(name: &'a str) -> Self {
        Self { name, mode: 0o755, owner: 0, contents: &[] }
    }

    pub(super) fn file(name: &'a str, mode: u32, contents: &'a [u8]) -> Self {
        Self { name, mode, owner: 0, contents }
    }
}

impl Image<'_> {
    /// The archive.
    pub(super) fn pack(&self) -> Result<Vec<u8>> {
        let layer = tar(&self.entries)?;
        let config = self.config(&layer).to_string().into_bytes();
        let manifest = manifest(&config, &layer).to_string().into_bytes();
        let index = self.index(&manifest).to_string().into_bytes();
        let docker = json!([{
            "Config": blob(&config),
            "RepoTags": [self.tag],
            "Layers": [blob(&layer)],
        }]);
        let docker = docker.to_string().into_bytes();
        let blobs = [&config, &manifest, &layer].map(|bytes| (blob(bytes), bytes));
        let mut entries = vec![Entry::directory("blobs/"), Entry::directory("blobs/sha256/")];
        entries.extend(blobs.iter().map(|(name, bytes)| Entry::file(name, 0o644, bytes)));
        entries.push(Entry::file("index.json", 0o644, &index));
        entries.push(Entry::file("manifest.json", 0o644, &docker));
        entries.push(Entry::file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#));
        entries.sort_by_key(|entry| entry.name);
        tar(&entries)
    }

    /// The image's configuration (OCI image specification 1.1, `config.md`).
    fn config(&self, layer: &[u8]) -> Value {
        json!({
            "architecture": self.arch,
            "os": "linux",
            "created": CREATED,
            "config": {
                "User": format!("{0}:{0}", self.user),
                "Entrypoint": [self.entrypoint],
                "Env": ["PATH=/usr/local/bin"],
                "Labels": {
                    "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                    "org.opencontainers.image.title": "sidecar",
                    "org.opencontainers.image.version": self.version,
                },
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))] },
            "history": [{ "created": CREATED, "created_by": "cargo xtask image" }],
        })
    }

    /// What is in the archive (`image-index.md`, `annotations.md`). containerd takes the name as it stands, so that it has
    /// to be whole.
    fn index(&self, manifest: &[u8]) -> Value {
        let mut described = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
        described["platform"] = json!({ "architecture": self.arch, "os": "linux" });
        let tag = self.tag.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        described["annotations"] = json!({
            "io.containerd.image.name": whole_name(self.tag),
            "org.opencontainers.image.ref.name": tag,
        });
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [described],
        })
    }
}

fn manifest(config: &[u8], layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    })
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len() })
}

/// Where these bytes are in the archive.
fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", sha256(bytes))
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// An image's name with what Docker leaves out: the registry, the directory `library` there, and the tag.
fn whole_name(name: &str) -> String {
    let registry = match name.split_once('/') {
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => "",
        Some(_) => "docker.io/",
        None => "docker.io/library/",
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = if last.contains(':') { "" } else { ":latest" };
    format!("{registry}{name}{tag}")
}

/// A tar archive (POSIX.1-1988, `ustar`).
fn tar(entries: &[Entry<'_>]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend(header(entry)?);
        archive.extend(entry.contents);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // The end is two blocks of zeros.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(entry: &Entry<'_>) -> Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    if entry.name.len() > 100 {
        bail!("{}: longer than a tar archive takes", entry.name);
    }
    let kind = if entry.name.ends_with('/') { b"5" } else { b"0" };
    put(0, entry.name.as_bytes());
    put(100, format!("{:07o}", entry.mode).as_bytes());
    put(108, format!("{:07o}", entry.owner).as_bytes());
    put(116, format!("{:07o}", entry.owner).as_bytes());
    put(124, format!("{:011o}", entry.contents.len()).as_bytes());
    put(136, b"00000000000");
    // The checksum is taken with blanks in its place.
    put(148, b"        ");
    put(156, kind);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn packed() -> Result<Vec<u8>> {
        let entries = vec![
            Entry::directory("run/"),
            Entry { owner: 1337, ..Entry::directory("run/sidecar/") },
            Entry::file("sidecar", 0o755, b"program"),
        ];
        let image = Image {
            tag: "sidecar:1",
            arch: "amd64",
            version: "1",
            user: 1337,
            entrypoint: "/sidecar",
            entries,
        };
        image.pack()
    }

    /// What tar(1) prints of an archive.
    fn tar(archive: &[u8], arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new("tar");
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(archive)?;
        }
        let output = child.wait_with_output()?;
        assert!(output.status.success());
        Ok(output.stdout)
    }

    #[test]
    fn the_same_contents_give_the_same_bytes() -> Result<()> {
        assert_eq!(packed()?, packed()?);
        Ok(())
    }

    #[test]
    fn tar_lists_a_layer_with_modes_and_owners() -> Result<()> {
        let archive = packed()?;
        let docker: Value = serde_json::from_slice(&tar(&archive, &["-xOf-", "manifest.json"])?)?;
        assert_eq!(docker[0]["RepoTags"], json!(["sidecar:1"]));
        let layer = docker[0]["Layers"][0].as_str().unwrap_or_default();
        let listed = tar(&tar(&archive, &["-xOf-", layer])?, &["--utc", "--numeric-owner", "-tvf-"])?;
        let listed = String::from_utf8(listed)?;
        let lines: Vec<_> = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        let day = "1970-01-01";
        assert_eq!(
            lines,
            [
                ["drwxr-xr-x", "0/0", "0", day, "00:00", "run/"],
                ["drwxr-xr-x", "1337/1337", "0", day, "00:00", "run/sidecar/"],
                ["-rwxr-xr-x", "0/0", "7", day, "00:00", "sidecar"],
            ]
        );
        Ok(())
    }

    #[test]
    fn every_blob_is_what_its_descriptor_says() -> Result<()> {
        let archive = packed()?;
        let read = |name: &str| tar(&archive, &["-xOf-", name]);
        let blob = |described: &Value| -> Result<Value> {
            let digest =
                described["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:").to_owned();
            let bytes = read(&format!("blobs/sha256/{digest}"))?;
            assert_eq!((sha256(&bytes), Some(bytes.len() as u64)), (digest, described["size"].as_u64()));
            Ok(serde_json::from_slice(&bytes).unwrap_or_default())
        };
        let index: Value = serde_json::from_slice(&read("index.json")?)?;
        let manifest = blob(&index["manifests"][0])?;
        blob(&manifest["layers"][0])?;
        let config = blob(&manifest["config"])?;
        assert_eq!(config["config"]["User"], "1337:1337");
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        Ok(())
    }

    #[test]
    fn names_are_made_whole() {
        assert_eq!(whole_name("sidecar:0.1.0"), "docker.io/library/sidecar:0.1.0");
        assert_eq!(whole_name("team/sidecar"), "docker.io/team/sidecar:latest");
        assert_eq!(whole_name("localhost/sidecar:dev"), "localhost/sidecar:dev");
        assert_eq!(whole_name("registry:5000/sidecar"), "registry:5000/sidecar:latest");
    }
}
