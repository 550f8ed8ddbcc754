//! Bodies on their way: passed on frame by frame, counted, and watched to their end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::client::{Active, Client};
use super::mirror::{Copied, Teed};
use super::record::Record;
use super::upstream::Lease;
use super::watch::{Over, Watched};
use crate::observe::recorded::Excerpt;

/// The body of a message that the proxy sends.
pub(super) enum Flow {
    /// Nothing, or what the proxy itself says.
    Own(Option<Bytes>),
    /// A client's, on its way up: as long as it is, its connection is in use.
    Up { body: Incoming, watched: Arc<Watched>, recorded: Option<Arc<Excerpt>>, _active: Active },
    /// Likewise, copied for mirrors.
    Teed(Box<Teed<Flow>>),
    /// Such a copy.
    Copied(Box<Copied>),
    /// An answer, on its way down.
    Down(Box<Down>),
}

/// An answer's body, with what ends when it does.
pub(super) struct Down {
    body: Incoming,
    /// Where the connection goes that it comes from.
    lease: Option<Lease>,
    record: Record,
    ended: bool,
    _active: Active,
}

/// A body that does not come whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Who sends it broke off.
    #[error("{0}")]
    Off(#[from] hyper::Error),
    /// It took too long.
    #[error("over its time: {0:?}")]
    Late(Over),
    /// It is a copy that is not continued.
    #[error("cut off")]
    Cut,
}

impl Flow {
    pub(super) fn empty() -> Self {
        Self::Own(None)
    }

    pub(super) fn of(text: impl Into<Bytes>) -> Self {
        Self::Own(Some(text.into()).filter(|text| !text.is_empty()))
    }

    /// A client's, on its way up.
    pub(super) fn up(body: Incoming, record: &Record, client: &Arc<Client>) -> Self {
        if body.is_end_stream() {
            Self::empty()
        } else {
            let (watched, recorded) = (Arc::clone(record.watched()), record.body());
            Self::Up { body, watched, recorded, _active: client.begin() }
        }
    }

    pub(super) fn down(body: Incoming, lease: Option<Lease>, record: Record, active: Active) -> Self {
        let ended = body.is_end_stream();
        let mut down = Down { body, lease, record, ended: false, _active: active };
        if ended {
            down.end();
        }
        Self::Down(Box::new(down))
    }
}

impl Down {
    /// All of it came: its connection can serve again.
    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            if let Some(lease) = self.lease.take() {
                lease.give_back();
            }
            self.record.finish();
        }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Up { body, watched, recorded, .. } => {
                let frame = Pin::new(body).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &frame {
                    if let (Some(recorded), Some(data)) = (recorded, frame.data_ref()) {
                        recorded.take(data);
                    }
                    watched.sent(frame.data_ref().map_or(0, |data| data.remaining() as u64));
                }
                frame.map_err(Broken::Off)
            }
            Self::Teed(teed) => teed.poll(cx),
            Self::Copied(copied) => copied.poll(cx),
            Self::Down(down) => {
                let frame = Pin::new(&mut down.body).poll_frame(cx);
                match &frame {
                    Poll::Ready(Some(Ok(frame))) => {
                        down.record.watched().moved();
                        if let Some(data) = frame.data_ref() {
                            down.record.received(data);
                        }
                        if let Some(trailers) = frame.trailers_ref() {
                            down.record.trailers(trailers);
                        }
                        if down.body.is_end_stream() {
                            down.end();
                        }
                    }
                    Poll::Ready(None) => down.end(),
                    Poll::Ready(Some(Err(_))) => down.record.upstream_broke(),
                    Poll::Pending => {
                        if let Poll::Ready(over) = down.record.watched().poll_over(cx) {
                            down.record.flag(over.flags());
                            return Poll::Ready(Some(Err(Broken::Late(over))));
                        }
                    }
                }
                frame.map_err(Broken::Off)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Up { body, .. } => body.is_end_stream(),
            Self::Teed(teed) => teed.body().is_end_stream(),
            Self::Copied(_) => false,
            Self::Down(down) => down.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Up { body, .. } => body.size_hint(),
            Self::Teed(teed) => teed.body().size_hint(),
            Self::Copied(copied) => copied.size_hint(),
            Self::Down(down) => down.body.size_hint(),
        }
    }
}
