//! Waiting for a receiver before its connection is reset.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::net::sys;

/// How long a receiver may take to acknowledge some of what waits for it.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
const SETTLE_POLL: Duration = Duration::from_millis(2);

/// Waits until the peer has acknowledged all that was written, as long as it goes on doing so. To be called before a
/// reset, which would take back what is still on its way: without a proxy, the peer would have had it before.
pub async fn settle(stream: &TcpStream) {
    let mut waiting = sys::unacknowledged(stream);
    let mut since = Instant::now();
    while waiting > 0 && since.elapsed() < SETTLE_PATIENCE {
        tokio::time::sleep(SETTLE_POLL).await;
        let now = sys::unacknowledged(stream);
        if now < waiting {
            since = Instant::now();
        }
        waiting = now;
    }
}
