//! A socket as hyper wants it, which others may look at meanwhile.

use std::io::{self, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::copy::read_some;

/// What one read takes at most.
const MOST: usize = 64 * 1024;

/// A TCP socket that is shared, and told what goes over it.
pub trait Socket: Send + Sync + 'static {
    /// The socket.
    fn stream(&self) -> &TcpStream;

    /// So many bytes were read from it.
    fn read(&self, bytes: usize);

    /// So many bytes were written to it.
    fn wrote(&self, bytes: usize);

    /// True from when something is to be written until who writes has nothing more to write.
    fn unflushed(&self) -> &AtomicBool;
}

/// Reads and writes a [`Socket`].
pub struct Io<S>(pub Arc<S>);

impl<S: Socket> AsyncRead for Io<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.0.stream();
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let room = buffer.remaining().min(MOST);
            if let Some(read) = read_some(stream, buffer.initialize_unfilled_to(room))? {
                buffer.advance(read);
                self.0.read(read);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Socket> AsyncWrite for Io<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |mut socket| socket.write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.unflushed().store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(self.0.stream()).shutdown(Shutdown::Write))
    }
}

impl<S: Socket> Io<S> {
    fn poll_written(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&socket2::Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = self.0.stream();
        self.0.unflushed().store(true, Ordering::Relaxed);
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || write(&SockRef::from(stream))) {
                Ok(written) => {
                    self.0.wrote(written);
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
