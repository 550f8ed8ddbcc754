//! `sidecar agent`: arms the Pods of a Kubernetes node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::{Client, Config};
use tokio::net::TcpListener;

use super::init::in_the_machines_mounts;
use super::signals::Signals;
use crate::agent::{self, Node};
use crate::bpf::probe;
use crate::host::cgroup::{CgroupError, Hierarchy};
use crate::instance::RUN_DIRECTORY;
use crate::pod::PROXY_UID;

/// Where a DaemonSet has the machine's hierarchy.
const CGROUP_ROOT: &str = "/host/sys/fs/cgroup";

/// `sidecar agent`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The name of the node, whose Pods are armed
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// Serve /metrics, /healthz and /readyz there
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Where the machine's /sys/fs/cgroup is, also of a hybrid host; by default /host/sys/fs/cgroup, or else what is
    /// mounted here
    #[arg(long, value_name = "PATH")]
    cgroup_root: Option<PathBuf>,
    /// Where is written down what is armed; goes with the machine, as pins do
    #[arg(long, value_name = "DIRECTORY", default_value = RUN_DIRECTORY)]
    state: PathBuf,
    /// The user that proxies run as; their connections are exempt
    #[arg(long, default_value_t = PROXY_UID)]
    uid: u32,
}

/// Arms until SIGTERM; what is armed stays.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let hierarchy = hierarchy(args.cgroup_root.as_deref())?;
    // It moves this process about for a moment: before there are threads.
    let doubt = match probe::doubt_of_bypass() {
        Ok(doubt) => doubt,
        Err(error) => Some(error.to_string()),
    };
    if let Some(doubt) = &doubt {
        tracing::warn!("Pods get no bypass, since this kernel fails the self-test: {doubt}");
    }
    let node = Node {
        run: args.state.clone(),
        hierarchy,
        doubt,
        user: args.uid,
        mounts_stay: in_the_machines_mounts(),
    };
    super::block_on(serve(args, node))?;
    Ok(super::DONE)
}

async fn serve(args: &Args, node: Node) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let listener = match args.metrics {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.with_context(|| format!("listen on {address}; choose another --metrics"))?)
        }
        None => None,
    };
    let config = Config::infer().await.context("find the API server, by KUBECONFIG or a service account")?;
    let client = Client::try_from(config).context("a client of the API server")?;
    agent::run(client, node, &args.node, listener, signals.end()).await
}

fn hierarchy(root: Option<&Path>) -> Result<Hierarchy, CgroupError> {
    match root {
        Some(root) => Hierarchy::at(root),
        None => Hierarchy::at(Path::new(CGROUP_ROOT)).or_else(|error| Hierarchy::visible().ok_or(error)),
    }
}
