//! `sidecar webhook`: answers the API server about new Pods.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use kube::Client;
use tokio::net::TcpListener;

use super::inject::Parts;
use super::signals::Signals;
use crate::inject::Again;
use crate::webhook::{Keeper, Mounted, Names, TlsDirectory, Webhook, serve};

/// `sidecar webhook`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where it listens
    #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The Service by which the API server reaches it
    #[arg(long, default_value = "sidecar-webhook", value_name = "NAME")]
    service: String,
    /// The namespace of the Service and the Secret
    #[arg(long, env = "POD_NAMESPACE", default_value = "sidecar-system", value_name = "NAME")]
    namespace: String,
    /// The Secret in which it keeps the certificate that it makes
    #[arg(long, default_value = "sidecar-webhook-tls", value_name = "NAME")]
    secret: String,
    /// The MutatingWebhookConfiguration whose caBundle it keeps
    #[arg(long, default_value = "sidecar-webhook", value_name = "NAME")]
    configuration: String,
    /// Has tls.crt and tls.key, which somebody else keeps, as cert-manager does; then it makes none, and leaves caBundle alone
    #[arg(long, value_name = "DIR")]
    tls_directory: Option<PathBuf>,
    /// Whether the proxy is an init container that stays: auto asks the API server for its version
    #[arg(long, default_value = "auto", value_name = "WHEN")]
    native: Native,
    #[command(flatten)]
    parts: Parts,
}

/// When sidecars are native.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Native {
    /// From Kubernetes 1.29 on.
    Auto,
    Always,
    Never,
}

/// Serves until SIGTERM.
pub fn run(args: Args) -> anyhow::Result<u8> {
    super::block_on(run_to_the_end(args))
}

async fn run_to_the_end(args: Args) -> anyhow::Result<u8> {
    let mut signals = Signals::new()?;
    let native = match args.native {
        Native::Auto => None,
        Native::Always => Some(true),
        Native::Never => Some(false),
    };
    let webhook = Webhook::new(args.parts.settings(false, Again::Keep), native);
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
    tracing::info!("listening on {}", listener.local_addr()?);
    let Args { namespace, service, secret, configuration, .. } = args;
    let names = Names { namespace, service, secret, configuration };
    let client = async || Client::try_default().await.context("find the API server");
    let keep: std::pin::Pin<Box<dyn Future<Output = ()>>> = match args.tls_directory {
        Some(directory) => {
            let mounted = Mounted::new(webhook.clone(), TlsDirectory(directory))?;
            if native.is_none() {
                let keeper = Keeper::new(webhook.clone(), client().await?, names);
                Box::pin(async move { tokio::join!(keeper.find_version(), mounted.keep()).1 })
            } else {
                Box::pin(mounted.keep())
            }
        }
        None => Box::pin(Keeper::new(webhook.clone(), client().await?, names).keep()),
    };
    let serving = serve(listener, webhook, signals.end());
    tokio::select! {
        served = serving => served?,
        () = keep => anyhow::bail!("the certificate is no longer kept"),
    }
    Ok(super::DONE)
}
