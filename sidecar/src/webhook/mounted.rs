//! A certificate that others keep, as cert-manager does, in files of a mounted Secret.

use std::time::Duration;

use anyhow::Context;

use super::{TlsDirectory, Webhook};
use crate::tls::{Chain, Key};

/// Shows the certificate of a directory, also when it changes.
pub struct Mounted {
    webhook: Webhook,
    directory: TlsDirectory,
}

/// How often the files are looked at; some kilobytes in the page cache.
const PERIOD: Duration = Duration::from_secs(1);

impl Mounted {
    /// Reads the files, which must be good.
    pub fn new(webhook: Webhook, directory: TlsDirectory) -> anyhow::Result<Self> {
        let mounted = Self { webhook, directory };
        let (chain, key) = mounted.directory.read()?;
        mounted
            .webhook
            .shown
            .show(&chain, &key)
            .with_context(|| mounted.directory.0.display().to_string())?;
        Ok(mounted)
    }

    /// Shows each further version; never ends.
    pub async fn keep(self) {
        let mut said = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let directory = self.directory.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || directory.read()).await else { return };
            let shown = read.and_then(|(chain, key)| Ok(self.webhook.shown.show(&chain, &key)?));
            match shown {
                Ok(is_new) => {
                    if is_new {
                        tracing::info!("another certificate is shown");
                    }
                    said = None;
                }
                // In the middle of a change the key may be another's; the one before stays.
                Err(error) => {
                    let error = format!("{error:#}");
                    if said.as_ref() != Some(&error) {
                        tracing::warn!("{}: {error}; the one before stays", self.directory.0.display());
                        said = Some(error);
                    }
                }
            }
        }
    }
}

impl TlsDirectory {
    fn read(&self) -> anyhow::Result<(Chain, Key)> {
        let (chain, key) = (self.0.join("tls.crt"), self.0.join("tls.key"));
        let chain = Chain::read(&chain).with_context(|| chain.display().to_string())?;
        Ok((chain, Key::read(&key).with_context(|| key.display().to_string())?))
    }
}
