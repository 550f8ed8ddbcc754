//! Copies of requests for mirrors, whose answers nobody hears. A body is copied while it goes by: a mirror that does not keep
//! up is given up, and the request itself never waits for one.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::EXPECT;
use hyper::http::request;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::body::{Broken, Flow};
use super::client::Client;
use super::plan::Plan;
use super::routed::Later;
use super::upstream::Sent;
use super::{Version, headers, pool};
use crate::config::Protocol;
use crate::connection::{Accepted, Shared};
use crate::settings::Settings;
use crate::upstream::cluster::Cluster;

/// How long a mirror may take, after the whole request.
const TIME: Duration = Duration::from_secs(10);
/// What of a mirror's answer is read.
const ANSWER: usize = 64 * 1024;
/// How far a mirror may be behind: so many bytes, in so many pieces.
const BEHIND: usize = 1024 * 1024;
const PIECES: usize = 256;

/// A body that is copied as it goes by.
pub(super) struct Teed<B> {
    body: B,
    copies: Vec<Sink>,
}

/// Where a copy goes.
pub(super) struct Sink {
    pieces: mpsc::Sender<Piece>,
    behind: Arc<AtomicUsize>,
    whole: Arc<Notify>,
    /// What all requests share; `None` in tests.
    shared: Option<Arc<Shared>>,
}

/// The body of a copy.
pub(super) struct Copied {
    pieces: mpsc::Receiver<Piece>,
    behind: Arc<AtomicUsize>,
    length: SizeHint,
}

enum Piece {
    Frame(Frame<Bytes>),
    /// There is no more.
    End,
}

/// Sends copies of a request to the mirrors that its rule names. Returned: its body, which feeds them.
pub(super) fn mirror(
    client: &Arc<Client>,
    plan: &Plan,
    later: &Later<'_>,
    parts: &request::Parts,
    body: Flow,
) -> Flow {
    let Accepted { shared, settings, peer, .. } = &*client.accepted;
    let mut copies = Vec::new();
    for mirror in &later.mirrors {
        let drawn = fastrand::u32(0..mirror.fraction.denominator.max(1)) < mirror.fraction.numerator;
        let Some(cluster) = plan.cluster(&mirror.backend).filter(|_| drawn) else { continue };
        let whole = Arc::new(Notify::new());
        let flow = if body.is_end_stream() {
            whole.notify_one();
            Flow::empty()
        } else {
            let (sink, mirrored) = copy(Arc::clone(&whole), body.size_hint(), Some(Arc::clone(shared)));
            copies.push(sink);
            Flow::Copied(Box::new(mirrored))
        };
        // Not the client's connection, which may end before the mirror does.
        let by = (Arc::clone(shared), Arc::clone(settings), *peer);
        let sending = send(by, Arc::clone(cluster), parts.clone(), flow);
        tokio::spawn(async move {
            // Nobody waits for it, so it must not last.
            let late = async {
                whole.notified().await;
                sleep(TIME).await;
            };
            tokio::select! {
                () = sending => {}
                () = late => {}
            }
        });
    }
    if copies.is_empty() { body } else { Flow::Teed(Box::new(Teed { body, copies })) }
}

async fn send(
    (shared, settings, peer): (Arc<Shared>, Arc<Settings>, SocketAddr),
    cluster: Arc<Cluster>,
    mut parts: request::Parts,
    body: Flow,
) {
    // What is to be told of its interim answers is not to be told of a mirror's.
    parts.extensions.clear();
    let authority = headers::authority(&parts);
    let version = match cluster.protocol {
        Protocol::Http2 | Protocol::Grpc => Version::Http2,
        _ => Version::Http1,
    };
    parts.headers.remove(EXPECT);
    headers::for_version(version, &mut parts, authority.as_ref());
    let Some(chosen) = cluster.pick(&parts.headers, peer, &[]) else { return };
    let request = Request::from_parts(parts, body);
    let sending = pool::send((&shared, &settings), &cluster, &chosen, version, request);
    let Ok(Sent { response, lease }) = sending.await else { return };
    let read = timeout(TIME, Limited::new(response.into_body(), ANSWER).collect()).await;
    if let (Ok(Ok(_)), Some(lease)) = (read, lease) {
        lease.give_back();
    }
}

/// A copy of a body that is this long. `whole` hears when it was given all that it gets.
fn copy(whole: Arc<Notify>, length: SizeHint, shared: Option<Arc<Shared>>) -> (Sink, Copied) {
    let (sender, pieces) = mpsc::channel(PIECES);
    let behind = Arc::new(AtomicUsize::new(0));
    let copied = Copied { pieces, behind: Arc::clone(&behind), length };
    (Sink { pieces: sender, behind, whole, shared }, copied)
}

// === impl ===

impl Sink {
    /// Takes a piece. False: it is too far behind, or has gone.
    fn take(&self, frame: &Frame<Bytes>) -> bool {
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Frame::data(data.clone()),
            (None, Some(trailers)) => Frame::trailers(trailers.clone()),
            (None, None) => return true,
        };
        let bytes = frame.data_ref().map_or(0, Buf::remaining);
        let behind = self.behind.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.pieces.is_closed() {
            // Its mirror has answered, or failed.
            return false;
        }
        let taken = behind <= BEHIND && self.pieces.try_send(Piece::Frame(piece)).is_ok();
        if let Some(shared) = self.shared.as_ref().filter(|_| !taken) {
            shared.http.mirrors_cut.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.whole.notify_one();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Teed<B> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ended = match &polled {
            Poll::Pending => return polled,
            Poll::Ready(Some(Ok(frame))) => {
                self.copies.retain(|copy| copy.take(frame));
                self.body.is_end_stream()
            }
            Poll::Ready(Some(Err(_))) => {
                // A copy that is not ended breaks off, as this does.
                self.copies.clear();
                false
            }
            Poll::Ready(None) => true,
        };
        if ended {
            for copy in self.copies.drain(..) {
                // One that has no room for it is cut after all.
                let _ = copy.pieces.try_send(Piece::End);
            }
        }
        polled
    }

    pub(super) fn body(&self) -> &B {
        &self.body
    }
}

impl Copied {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(Piece::Frame(frame)) => {
                self.behind.fetch_sub(frame.data_ref().map_or(0, Buf::remaining), Ordering::Relaxed);
                Some(Ok(frame))
            }
            Some(Piece::End) => None,
            None => Some(Err(Broken::Cut)),
        })
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.length
    }
}
