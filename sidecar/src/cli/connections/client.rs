//! Asks an instance over its control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::endpoints::BypassReport;
use crate::observe::connection::{ConnectionEvent, Snapshot};

/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest list that is read: about 100,000 connections.
const MAX_LIST: usize = 64 << 20;
/// The longest line of a stream that is read.
const MAX_LINE: usize = 64 << 10;

/// An instance that has a control socket.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Instance {
    pub(in crate::cli) name: String,
    socket: PathBuf,
}

/// An instance gave no usable answer.
#[derive(thiserror::Error, Debug)]
pub(in crate::cli) enum ClientError {
    #[error("its proxy is gone; skipped")]
    Gone,
    #[error("permission denied; ask as root, or as the user that its proxy runs as")]
    Denied,
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error("cannot connect to {path}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
    #[error("the answer is HTTP {0}")]
    Status(StatusCode),
    #[error("cannot read the answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a line of the answer is longer than {MAX_LINE} bytes")]
    Line,
    #[error("the answer is not what this version understands")]
    Json(#[from] serde_json::Error),
}

/// An answer, and the task that moves its bytes.
struct Answer {
    response: Response<Incoming>,
    _connection: JoinSet<()>,
}

// === impl ===

/// The instances with a directory in `run_dir` and a control socket in it, by name; `only` the named one. Without
/// `run_dir` there are none.
pub(in crate::cli) fn instances(run_dir: &Path, only: Option<&str>) -> io::Result<Vec<Instance>> {
    let entries = match std::fs::read_dir(run_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let socket = entry.path().join("control.sock");
        // An instance that only armed has none. One that may not be looked at is reported when it is asked.
        let absent = socket.symlink_metadata().is_err_and(|error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        });
        if !absent && only.is_none_or(|only| only == name) {
            found.push(Instance { name, socket });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The connections of an instance.
pub(super) async fn list(instance: &Instance) -> Result<Vec<Snapshot>, ClientError> {
    ask(instance, "/connections").await
}

/// What an instance says of its programs and the bypass.
pub(in crate::cli) async fn bypass(instance: &Instance) -> Result<BypassReport, ClientError> {
    ask(instance, "/bypass").await
}

async fn ask<T: DeserializeOwned>(instance: &Instance, target: &'static str) -> Result<T, ClientError> {
    let read = async {
        let answer = get(instance, target).await?;
        let body = Limited::new(answer.response.into_body(), MAX_LIST).collect();
        let body = body.await.map_err(ClientError::Body)?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    };
    match timeout(PATIENCE, read).await.unwrap_or(Err(ClientError::Timeout)) {
        // It ended while it answered.
        Err(ClientError::Http(_) | ClientError::Body(_))
            if UnixStream::connect(&instance.socket).await.is_err() =>
        {
            Err(ClientError::Gone)
        }
        answer => answer,
    }
}

/// Sends what happens in an instance until it ends or nobody receives.
pub(super) async fn watch(
    instance: &Instance,
    events: mpsc::Sender<ConnectionEvent>,
) -> Result<(), ClientError> {
    let asked = timeout(PATIENCE, get(instance, "/connections?watch=true")).await;
    let mut answer = asked.unwrap_or(Err(ClientError::Timeout))?;
    let mut unread = Vec::new();
    while let Some(frame) = answer.response.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        unread.extend_from_slice(&data);
        let mut lines = unread.split_inclusive(|&byte| byte == b'\n').peekable();
        let mut read = 0;
        while let Some(line) = lines.next_if(|line| line.ends_with(b"\n")) {
            read += line.len();
            if events.send(serde_json::from_slice(line)?).await.is_err() {
                return Ok(());
            }
        }
        unread.drain(..read);
        if unread.len() > MAX_LINE {
            return Err(ClientError::Line);
        }
    }
    Ok(())
}

async fn get(instance: &Instance, target: &'static str) -> Result<Answer, ClientError> {
    let stream = UnixStream::connect(&instance.socket)
        .await
        .map_err(|error| ClientError::from_connect(error, &instance.socket))?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = JoinSet::new();
    connection.spawn(async move {
        // Its failure shows where the answer is read.
        let _ = driver.await;
    });
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = hyper::Uri::from_static(target);
    request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("sidecar"));
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(ClientError::Status(response.status()));
    }
    Ok(Answer { response, _connection: connection })
}

impl ClientError {
    fn from_connect(source: io::Error, path: &Path) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::NotFound => {
                Self::Gone
            }
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Connect { path: path.to_owned(), source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_errors_say_what_to_do() {
        let shown = |kind: io::ErrorKind| ClientError::from_connect(kind.into(), Path::new("/x")).to_string();
        assert_eq!(shown(io::ErrorKind::ConnectionRefused), "its proxy is gone; skipped");
        assert!(shown(io::ErrorKind::PermissionDenied).contains("ask as root"));
        assert_eq!(shown(io::ErrorKind::WouldBlock), "cannot connect to /x");
    }
}
