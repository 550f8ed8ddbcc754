//! After an upgrade: bytes between the client and the upstream.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy, split};
use tokio::time::sleep;

use super::client::{Active, Client};
use super::record::Record;
use super::upstream::Lease;
use crate::observe::close_reason::CloseReason;

/// The two connections, once each is done with HTTP.
pub(super) struct Both {
    /// The client's.
    pub ours: OnUpgrade,
    /// The upstream's.
    pub theirs: OnUpgrade,
    /// Counts as under way until the end.
    pub lease: Option<Lease>,
}

/// What goes through a tunnel.
#[derive(Default)]
struct Meter {
    up: AtomicU64,
    down: AtomicU64,
    client_failed: AtomicBool,
}

/// The client's side, metered. What is read from it goes up, and what is written comes down.
struct Metered<T> {
    io: T,
    meter: Arc<Meter>,
}

/// Passes bytes until both sides are done, one fails, nothing goes either way for the idle time, or the drain is over. The
/// client's connection waits for it.
pub(super) fn begin(client: &Arc<Client>, both: Both, record: Record, active: Active) {
    client.tunnel(tokio::spawn(carry(Arc::clone(client), both, record, active)));
}

async fn carry(client: Arc<Client>, both: Both, mut record: Record, active: Active) -> CloseReason {
    let Both { ours, theirs, lease } = both;
    let meter = Arc::new(Meter::default());
    let copied = async {
        let ours = match ours.await {
            Ok(ours) => TokioIo::new(ours),
            Err(error) => return Err(meter.client_failed(error)),
        };
        let theirs = TokioIo::new(theirs.await.map_err(io::Error::other)?);
        both_ways(Metered { io: ours, meter: Arc::clone(&meter) }, theirs, &meter).await
    };
    let reason = tokio::select! {
        copied = copied => match copied {
            Ok(()) => CloseReason::Finished,
            Err(error) => {
                tracing::debug!(%error, "tunnel");
                meter.failure()
            }
        },
        () = meter.idle(client.accepted.settings.timeouts.idle) => CloseReason::IdleTimeout,
        () = client.accepted.shared.drain.forced() => CloseReason::Drained,
    };
    record.tunnelled(meter.up.load(Ordering::Relaxed), meter.down.load(Ordering::Relaxed));
    record.flag(match reason {
        CloseReason::ClientReset => "DC",
        CloseReason::UpstreamReset => "UC",
        CloseReason::IdleTimeout => "SI",
        CloseReason::Drained => "LR",
        _ => "",
    });
    record.finish();
    drop((active, lease));
    reason
}

/// Copies until both sides have ended. What the upstream said before it failed still goes to the client.
async fn both_ways(
    ours: impl AsyncRead + AsyncWrite + Unpin,
    theirs: impl AsyncRead + AsyncWrite + Unpin,
    meter: &Meter,
) -> io::Result<()> {
    let (our_read, our_write) = split(ours);
    let (their_read, their_write) = split(theirs);
    let (mut up, mut down) = (pin!(one_way(our_read, their_write)), pin!(one_way(their_read, our_write)));
    tokio::select! {
        sent = up.as_mut() => match sent {
            Err(error) if meter.failure() == CloseReason::ClientReset => Err(error),
            sent => down.await.and(sent),
        },
        came = down.as_mut() => {
            came?;
            up.await
        }
    }
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}

// === impl Meter ===

impl Meter {
    fn client_failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
        self.client_failed.store(true, Ordering::Relaxed);
        io::Error::other(error)
    }

    /// Whose failure it was.
    fn failure(&self) -> CloseReason {
        if self.client_failed.load(Ordering::Relaxed) {
            CloseReason::ClientReset
        } else {
            CloseReason::UpstreamReset
        }
    }

    /// Resolves when nothing went either way for `limit` or a little longer.
    async fn idle(&self, limit: Duration) {
        let moved = || self.up.load(Ordering::Relaxed) + self.down.load(Ordering::Relaxed);
        let mut before = None;
        while before.replace(moved()) != Some(moved()) {
            sleep(limit).await;
        }
    }
}

// === impl Metered ===

impl<T> Metered<T> {
    fn seen<V>(&self, result: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        if let Poll::Ready(Err(_)) = &result {
            self.meter.client_failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.meter.up.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        self.seen(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.meter.down.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        self.seen(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.seen(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.seen(shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_idle_when_nothing_goes_either_way() {
        let meter = Meter::default();
        let start = tokio::time::Instant::now();
        let moves = async {
            sleep(Duration::from_secs(50)).await;
            meter.down.fetch_add(1, Ordering::Relaxed);
        };
        tokio::join!(meter.idle(Duration::from_secs(60)), moves);
        assert_eq!(start.elapsed(), Duration::from_secs(120));
    }
}
