//! After an upgrade: bytes between the client and the upstream.

use std::sync::{Arc, PoisonError};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::record::Record;
use super::serve::{Active, Client};
use super::upstream::Lease;

/// The two connections, once each is done with HTTP.
pub(super) struct Both {
    /// The client's.
    pub ours: OnUpgrade,
    /// The upstream's.
    pub theirs: OnUpgrade,
    /// Counts as under way until the end.
    pub lease: Option<Lease>,
}

/// Passes bytes until both sides are done, one fails, or the drain is over. The client's connection waits for it.
pub(super) fn begin(client: &Arc<Client>, both: Both, mut record: Record, active: Active) {
    let shared = Arc::clone(&client.accepted.shared);
    let copying = async move {
        let Both { ours, theirs, lease } = both;
        let passed = async {
            let (ours, theirs) = tokio::try_join!(ours, theirs).ok()?;
            copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await.ok()
        };
        tokio::select! {
            passed = passed => match passed {
                Some((up, down)) => record.tunnelled(up, down),
                None => record.upstream_broke(),
            },
            () = shared.drain.forced() => {}
        }
        record.finish();
        drop((active, lease));
    };
    let task = tokio::spawn(copying);
    *client.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
}
