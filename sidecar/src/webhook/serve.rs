//! The server: HTTPS, bounded in all that a client could ask too much of.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Webhook;
use super::review::answer;
use crate::admin::serve::{Reply, only, reads, reply, text};

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 256;
/// A Pod is at most 1.5 MiB in etcd, and an update has it twice.
const MAX_BODY: usize = 3 << 20;
/// A larger one takes one of so many permits: most are some 10 KiB, and all connections at once may not take a gigabyte.
const LARGE_BODY: usize = 64 << 10;
static LARGE_BODIES: Semaphore = Semaphore::const_new(8);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a request's body may take. The API server waits for 30 s at most.
const BODY: Duration = Duration::from_secs(10);
/// How long the rest of a large one may take, which keeps others from being read.
const LARGE: Duration = Duration::from_secs(2);
/// How long a connection may be without a request. The API server's own bound is 90 s: it must be the one that hangs up, since
/// it does not send a request again that crossed with the end of the connection.
const IDLE: Duration = Duration::from_secs(120);
/// How long it still accepts after it was told to end: the API server hears late that it is gone.
const LEAVING: Duration = Duration::from_secs(5);
/// How long requests under way may take after that.
const DRAIN: Duration = Duration::from_secs(10);
/// The pause after a failed `accept()`: it fails while file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `end` resolves, and then until what is under way is answered.
pub async fn serve(
    listener: TcpListener,
    webhook: Webhook,
    end: impl Future<Output = ()>,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(webhook.shown.server()?));
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let (leaving, left) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut end = std::pin::pin!(async {
        end.await;
        tokio::time::sleep(LEAVING).await;
    });
    loop {
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut end => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, webhook, left) = (acceptor.clone(), webhook.clone(), left.clone());
                connections.spawn(async move {
                    connection(stream, acceptor, webhook, left).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Fails when there are no connections.
    let _ = leaving.send(true);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    webhook: Webhook,
    mut left: watch::Receiver<bool>,
) {
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%error, "a handshake failed");
            return;
        }
        Err(_) => return,
    };
    let service = service_fn(|request| {
        let webhook = webhook.clone();
        async move { Ok::<_, Infallible>(handle(request, &webhook).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let told = async {
        // Fails when whoever tells is gone, which says the same.
        let _ = left.wait_for(|left| *left).await.is_ok();
    };
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = told => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn handle(request: Request<Incoming>, webhook: &Webhook) -> Reply {
    match request.uri().path() {
        "/mutate" if request.method() == Method::POST => mutate(request, webhook).await,
        "/mutate" => only("POST"),
        "/healthz/ready" | "/healthz/live" if !reads(request.method()) => only("GET"),
        "/healthz/ready" => match webhook.ready() {
            Ok(()) => text(StatusCode::OK, "ready"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format_args!("not ready: {reason}")),
        },
        "/healthz/live" => text(StatusCode::OK, "live"),
        _ => text(StatusCode::NOT_FOUND, "here are /mutate, /healthz/ready and /healthz/live"),
    }
}

async fn mutate(request: Request<Incoming>, webhook: &Webhook) -> Reply {
    let Some(settings) = webhook.settings() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the version of Kubernetes is not known yet");
    };
    let (body, _permit) = match timeout(BODY, read(request.into_body())).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "a review is at most 3 MiB");
        }
        Ok(Err(error)) if error.is::<Elapsed>() => return late(),
        Ok(Err(error)) => return text(StatusCode::BAD_REQUEST, error),
        Err(_) => return late(),
    };
    match answer(&body, &settings) {
        Ok(answer) => reply(StatusCode::OK, "application/json", answer.to_string()),
        Err(error) => text(StatusCode::BAD_REQUEST, error),
    }
}

fn late() -> Reply {
    text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
}

/// The body, with the permit that a large one took.
async fn read(
    body: Incoming,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'static>>), Box<dyn Error + Send + Sync>> {
    let mut body = Limited::new(body, MAX_BODY);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if bytes.len() > LARGE_BODY {
            let permit = LARGE_BODIES.acquire().await?;
            let rest = timeout(LARGE, body.collect()).await??.to_bytes();
            bytes.extend_from_slice(&rest);
            return Ok((bytes, Some(permit)));
        }
    }
    Ok((bytes, None))
}
