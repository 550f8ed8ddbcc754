//! A small HTTP/1.1 server for people and probes, bounded so that it cannot hurt the data plane.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A response of these servers.
pub type Reply = Response<BoxBody<Bytes, Infallible>>;

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones are closed at once. A `?watch=true` stream holds one.
    pub connections: usize,
    /// From a connection's start, or its last response, to the end of a request's header.
    pub header_read: Duration,
}

/// Answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The answer. The request's body, if any, is not read.
    fn handle(&self, request: &Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// What connections come from: a TCP or a Unix listener.
pub trait Accept {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection. Cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// The pause after a failed `accept()`: it fails while file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// === impl ===

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, header_read: Duration::from_secs(10) }
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;
    async fn accept(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;
    async fn accept(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves until it is dropped, which closes all of its connections.
pub async fn serve(listener: impl Accept, limits: Limits, handler: impl Handler) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let handler = handler.clone();
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let handler = handler.clone();
                async move { Ok::<_, Infallible>(handler.handle(&request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_read)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "admin: a connection ended early");
            }
            drop(permit);
        });
    }
}

/// Binds a Unix socket that only this user and root may connect to. What a dead process left at `path` is replaced;
/// a living one's is not (EADDRINUSE).
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::net::UnixStream;
    if UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A response of this status, content type and body.
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// A line of text.
pub fn text(status: StatusCode, line: impl std::fmt::Display) -> Reply {
    reply(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// 404.
pub fn not_found() -> Reply {
    text(StatusCode::NOT_FOUND, "not found; / lists what is here")
}

/// 405, naming the one method that works.
pub fn only(method: &'static str) -> Reply {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format_args!("only {method} works here"));
    response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(method));
    response
}

/// True for methods that only read.
pub fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

#[cfg(test)]
pub(crate) mod tests;
