use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;

use hyper::HeaderMap;

use super::*;

/// A body of these pieces.
struct Pieces(VecDeque<Frame<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn piece(bytes: usize) -> Frame<Bytes> {
    Frame::data(Bytes::from(vec![7; bytes]))
}

/// A body that is copied, and its copies.
fn teed(pieces: impl IntoIterator<Item = Frame<Bytes>>, number: usize) -> (Teed<Pieces>, Vec<Copied>) {
    let copy = || copy(Arc::default(), SizeHint::new(), None);
    let (copies, mirrored) = (0..number).map(|_| copy()).unzip();
    (Teed { body: Pieces(pieces.into_iter().collect()), copies }, mirrored)
}

/// The size of what comes, and whether it comes whole.
async fn read<E>(
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>>,
) -> (usize, bool) {
    let mut bytes = 0;
    loop {
        match poll_fn(&mut poll).await {
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return (bytes, false),
            None => return (bytes, true),
        }
    }
}

#[tokio::test]
async fn each_copy_gets_all_of_it() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "3".parse().unwrap());
    let (mut body, mut copies) = teed([piece(5), piece(0), piece(7), Frame::trailers(trailers)], 2);
    assert_eq!(read(|cx| body.poll(cx)).await, (12, true));
    for copy in &mut copies {
        assert_eq!(read(|cx| copy.poll(cx)).await, (12, true));
        assert_eq!(copy.behind.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn a_copy_that_is_too_far_behind_breaks_off_alone() {
    for (size, pieces) in [(BEHIND / 4, 8), (1, 2 * PIECES)] {
        let (mut body, mut copies) = teed((0..pieces).map(|_| piece(size)), 2);
        let mut read_first = 0;
        for _ in 0..pieces {
            poll_fn(|cx| body.poll(cx)).await.unwrap().unwrap();
            let frame = poll_fn(|cx| copies[0].poll(cx)).await.unwrap().unwrap();
            read_first += frame.data_ref().unwrap().len();
        }
        assert_eq!(read_first, pieces * size, "one keeps up");
        assert_eq!(read(|cx| copies[0].poll(cx)).await, (0, true));
        let (bytes, whole) = read(|cx| copies[1].poll(cx)).await;
        assert!(bytes > 0 && bytes <= BEHIND && !whole, "{bytes} {whole}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_whole_copy() {
    let (body, mut copies) = teed([piece(5)], 1);
    drop(body);
    assert_eq!(read(|cx| copies[0].poll(cx)).await, (0, false));
}
