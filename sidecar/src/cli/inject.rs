//! `sidecar inject`: manifests in, manifests with the sidecar out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::inject::manifest::{self, ManifestErrors};
use crate::inject::{Again, PullPolicy, Resources, Settings};
use crate::kubernetes::annotations::PodMode;

/// `sidecar inject`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The manifests, YAML or JSON; - for standard input
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// The proxy is an init container that stays, which ends with the application: for Kubernetes 1.29 and later
    #[arg(long)]
    native: bool,
    #[command(flatten)]
    parts: Parts,
}

/// What is put in.
#[derive(clap::Args, Clone, Debug)]
pub struct Parts {
    /// What arms the Pods: a privileged init container of their own, or the agent of their node; annotation sidecar.dev/mode
    #[arg(long, default_value = "init", value_name = "MODE")]
    mode: PodMode,
    /// The image of the containers
    #[arg(long, default_value = concat!("sidecar:", env!("CARGO_PKG_VERSION")), value_name = "IMAGE")]
    image: String,
    /// When the image is pulled; by default as Kubernetes decides by its tag
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<PullPolicy>,
    #[command(flatten)]
    resources: Resources,
}

/// How much is read.
const MAX_BYTES: u64 = 64 << 20;

impl Parts {
    /// With native sidecars or without, and for Pods that have a sidecar already.
    pub fn settings(&self, native: bool, again: Again) -> Settings {
        Settings {
            mode: self.mode,
            native,
            again,
            image: self.image.clone(),
            image_pull_policy: self.image_pull_policy,
            resources: self.resources.clone(),
        }
    }
}

/// Writes all documents to standard output, or, if anything is wrong with one, none.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let (text, name) = read(&args.file)?;
    match manifest::inject(&text, &name, &args.parts.settings(args.native, Again::Replace)) {
        Ok(injected) => {
            for note in &injected.notes {
                eprintln!("{note}");
            }
            let mut out = io::stdout().lock();
            out.write_all(injected.text.as_bytes())
                .and_then(|()| out.flush())
                .context("write to standard output")?;
            Ok(super::DONE)
        }
        Err(errors) => {
            eprintln!("{errors}");
            Ok(status(&errors))
        }
    }
}

fn status(errors: &ManifestErrors) -> u8 {
    if errors.is_mistake() { super::BAD_CONFIG } else { super::FAILED }
}

/// The text, and what messages call it.
fn read(path: &Path) -> anyhow::Result<(String, String)> {
    let (source, name): (Box<dyn Read>, _) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), "stdin".to_owned())
    } else {
        let name = path.display().to_string();
        (Box::new(File::open(path).with_context(|| format!("open {name}"))?), name)
    };
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("read {name}"))?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "{name} is larger than 64 MiB; split it into several files"
    );
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8; save it as UTF-8"))?;
    Ok((text, name))
}
