//! Keeps the certificate in a Secret that all replicas share, and the API server's belief in it.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::certificate::Issued;
use super::{Names, Webhook, has_native_sidecars};
use crate::tls::{Chain, Key};

/// Asks the API server.
pub struct Keeper {
    webhook: Webhook,
    client: Client,
    names: Names,
    /// What is shown.
    current: Option<Issued>,
}

/// How often the Secret and the configuration are looked at. A configuration that was applied anew has lost its `caBundle`,
/// and no Pod is created until it is back.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon it is asked again when something went wrong.
const RETRY: Duration = Duration::from_secs(2);
/// How often others may be faster at making a certificate.
const RACES: usize = 5;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const ISSUERS: &str = "ca.crt";
/// Annotations of the Secret.
const RENEW_AT: &str = "sidecar.dev/renew-at";
const NAMES: &str = "sidecar.dev/names";

impl Keeper {
    /// For this webhook.
    pub fn new(webhook: Webhook, client: Client, names: Names) -> Self {
        Self { webhook, client, names, current: None }
    }

    /// Keeps all; never ends.
    pub async fn keep(mut self) {
        loop {
            let kept = tokio::time::timeout(PATIENCE, self.once()).await;
            let pause = match kept {
                Ok(Ok(())) => PERIOD,
                Ok(Err(error)) => {
                    tracing::warn!("{error:#}");
                    RETRY
                }
                Err(_) => {
                    tracing::warn!("the API server does not answer");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Only finds out the version; ends when it has.
    pub async fn find_version(self) {
        while let Err(error) = self.version().await {
            tracing::warn!("{error:#}");
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn once(&mut self) -> anyhow::Result<()> {
        let issued = self.issued().await?;
        // Whoever is shown a new certificate must be able to believe it, so that the API server hears of it first.
        self.spread(&issued.issuers).await?;
        let chain = Chain::parse(issued.certificate.as_bytes()).context("the Secret's tls.crt")?;
        let key = Key::parse(issued.key.as_bytes()).context("the Secret's tls.key")?;
        if self.webhook.shown.show(&chain, &key).context("the Secret's certificate and key")? {
            tracing::info!(secret = self.names.secret, "another certificate is shown");
        }
        self.current = Some(issued);
        if self.webhook.settings().is_none() {
            self.version().await?;
        }
        Ok(())
    }

    async fn version(&self) -> anyhow::Result<()> {
        let version = self.client.apiserver_version().await.context("ask for the version of Kubernetes")?;
        self.webhook.set_native(has_native_sidecars(&version.major, &version.minor));
        Ok(())
    }

    /// The certificate of the Secret, made if there is none or it is time.
    async fn issued(&self) -> anyhow::Result<Issued> {
        let Names { namespace, service, secret: name, .. } = &self.names;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let names = vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
        ];
        for _ in 0..RACES {
            let secret =
                secrets.get_opt(name).await.with_context(|| format!("read Secret {namespace}/{name}"))?;
            let stored = secret.as_ref().and_then(read);
            if let Some(issued) = stored.clone().filter(|issued| is_usable(issued) && issued.is_good(&names))
            {
                return Ok(issued);
            }
            let before = stored.as_ref().or(self.current.as_ref());
            let issued = Issued::new(names.clone(), before).context("make a certificate")?;
            let version = secret.and_then(|secret| secret.metadata.resource_version);
            let new = written(&issued, namespace, name, version.clone());
            let stored = match version {
                // Refused if another replica was faster: it has another version then.
                Some(_) => secrets.replace(name, &PostParams::default(), &new).await,
                None => secrets.create(&PostParams::default(), &new).await,
            };
            match stored {
                Ok(_) => {
                    tracing::info!("a certificate was made, and kept in Secret {namespace}/{name}");
                    return Ok(issued);
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("write Secret {namespace}/{name}"));
                }
            }
        }
        anyhow::bail!("Secret {namespace}/{name} is written by others again and again")
    }

    /// Has the API server believe these issuers.
    async fn spread(&self, issuers: &str) -> anyhow::Result<()> {
        let name = &self.names.configuration;
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let found = configurations
            .get_opt(name)
            .await
            .with_context(|| format!("read MutatingWebhookConfiguration {name}"))?;
        let Some(found) = found else {
            tracing::warn!("there is no MutatingWebhookConfiguration {name}: nobody asks this webhook");
            return Ok(());
        };
        let webhooks = found.webhooks.unwrap_or_default();
        let stale: Vec<_> = webhooks
            .iter()
            .filter(|webhook| {
                webhook.client_config.ca_bundle.as_ref().is_none_or(|bundle| bundle.0 != issuers.as_bytes())
            })
            .map(|webhook| {
                let bundle = STANDARD.encode(issuers);
                json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}})
            })
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        // Merged into the list by name.
        let patch = Patch::Strategic(json!({"webhooks": stale}));
        configurations
            .patch(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("write caBundle of MutatingWebhookConfiguration {name}"))?;
        tracing::info!("caBundle of MutatingWebhookConfiguration {name} was set");
        Ok(())
    }
}

/// A key and a certificate that belong together.
fn is_usable(issued: &Issued) -> bool {
    let chain = Chain::parse(issued.certificate.as_bytes());
    let key = Key::parse(issued.key.as_bytes());
    match (chain, key) {
        (Ok(chain), Ok(key)) => crate::tls::Shown::default().show(&chain, &key).is_ok(),
        _ => false,
    }
}

/// What a Secret holds; `None`: something else.
fn read(secret: &Secret) -> Option<Issued> {
    let data = secret.data.as_ref()?;
    let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
    let annotations = secret.metadata.annotations.as_ref()?;
    let renew_at = annotations.get(RENEW_AT)?.parse().ok()?;
    Some(Issued {
        certificate: text(CERTIFICATE)?,
        key: text(KEY)?,
        issuers: text(ISSUERS)?,
        renew_at: UNIX_EPOCH.checked_add(Duration::from_secs(renew_at))?,
        names: annotations.get(NAMES)?.split(',').map(str::to_owned).collect(),
    })
}

fn written(issued: &Issued, namespace: &str, name: &str, version: Option<String>) -> Secret {
    let renew_at = issued.renew_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let data = [(CERTIFICATE, &issued.certificate), (KEY, &issued.key), (ISSUERS, &issued.issuers)];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            resource_version: version,
            annotations: Some(BTreeMap::from([
                (RENEW_AT.to_owned(), renew_at.to_string()),
                (NAMES.to_owned(), issued.names.join(",")),
            ])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.map(|(name, text)| (name.to_owned(), ByteString(text.clone().into_bytes()))).into()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_secret_gives_back_what_was_put_in() {
        let mut issued = Issued::new(vec!["a".to_owned(), "b.c".to_owned()], None).unwrap();
        issued.renew_at = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let secret = written(&issued, "ns", "name", None);
        assert_eq!(read(&secret), Some(issued.clone()));
        assert!(is_usable(&issued));
        assert_eq!(read(&Secret::default()), None);
        let other = Issued::new(issued.names.clone(), None).unwrap();
        assert!(!is_usable(&Issued { key: other.key, ..issued.clone() }));
        assert!(!Issued { renew_at: SystemTime::now(), ..issued.clone() }.is_good(&issued.names));
    }
}
