//! The streams of an HTTP/2 connection, each a task that ends with its request's time.

use std::pin::pin;

use hyper::rt::Executor;

use super::watch::until_over;

/// Runs streams. Dropped, a stream is reset.
#[derive(Clone, Copy)]
pub(super) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(async move {
            // Of which request, and why, is logged with it.
            let _ = until_over(pin!(stream), &mut None).await;
        });
    }
}
