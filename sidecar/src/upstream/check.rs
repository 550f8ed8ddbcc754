//! Asking endpoints whether they are well: by HTTP, by connecting, or by gRPC's health protocol
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use std::collections::HashMap;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HOST, TE};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::cluster::{At, Cluster, Endpoint};
use super::health::{Health, Transition};
use crate::config::Protocol;
use crate::config::traffic::{HealthCheck, Probe};
use crate::tls;

/// What of an answer is read.
const ANSWER_BYTES: usize = 64 * 1024;
/// Endpoints that are asked at the same time.
const AT_ONCE: usize = 32;
/// `ServingStatus.SERVING` in a `HealthCheckResponse`, after the five bytes that frame a message.
const SERVING: [u8; 2] = [0x08, 0x01];

/// A connection to an endpoint.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Asks all endpoints of a cluster again and again, until this is dropped.
pub(super) async fn keep_asking(cluster: &Cluster, check: &HealthCheck) {
    let mut known: HashMap<u64, Health> = HashMap::new();
    let mut ticks = interval(check.interval);
    loop {
        ticks.tick().await;
        let endpoints = cluster.endpoints();
        known.retain(|id, _| endpoints.list.iter().any(|endpoint| endpoint.id == *id));
        for some in endpoints.list.chunks(AT_ONCE) {
            let mut asking = JoinSet::new();
            for endpoint in some {
                let (endpoint, check) = (endpoint.clone(), check.clone());
                let by_http2 = matches!(cluster.protocol, Protocol::Http2 | Protocol::Grpc);
                asking.spawn(async move {
                    let asked = is_well(&endpoint, &check.probe, by_http2);
                    let well = timeout(check.timeout, asked).await;
                    (endpoint, well.ok().flatten().unwrap_or(false))
                });
            }
            while let Some(asked) = asking.join_next().await {
                let Ok((endpoint, well)) = asked else { continue };
                let health = known.entry(endpoint.id).or_insert_with(|| Health::new(check));
                match health.observe(well) {
                    Some(Transition::Healthy) => tracing::info!(endpoint = %endpoint.name, "healthy"),
                    Some(Transition::Unhealthy) => tracing::warn!(endpoint = %endpoint.name, "not healthy"),
                    None => {}
                }
                endpoint.set_healthy(health.is_healthy());
            }
        }
    }
}

/// Asks in the version of HTTP that its requests are in. `None`: it did not answer.
async fn is_well(endpoint: &Endpoint, probe: &Probe, by_http2: bool) -> Option<bool> {
    let mut wire: Box<dyn Wire> = match &endpoint.at {
        At::Tcp(address) => Box::new(TcpStream::connect(address).await.ok()?),
        At::Unix(path) => Box::new(UnixStream::connect(path).await.ok()?),
    };
    if let Some(peer) = &endpoint.tls {
        let offers: &[&[u8]] = match probe {
            Probe::Tcp => &[],
            Probe::Http { .. } if !by_http2 => &[tls::HTTP1],
            Probe::Http { .. } | Probe::Grpc { .. } => &[tls::HTTP2],
        };
        let refused = |error| tracing::debug!(endpoint = %endpoint.name, %error, "health check: TLS");
        wire = Box::new(peer.connect(wire, offers).await.map_err(refused).ok()?);
    }
    match probe {
        Probe::Tcp => Some(true),
        Probe::Http { path, host, expected_statuses } => {
            let host = host.as_ref().map_or(endpoint.name.as_str(), |host| host.as_str());
            if by_http2 {
                let uri = format!("{}://{host}{path}", scheme(endpoint));
                let response = by_http2_asked(wire, Request::get(uri).body(Full::default()).ok()?).await?;
                return Some(expected_statuses.contains(&response.status().as_u16()));
            }
            let request =
                Request::get(path.as_str()).header(HOST, host).body(Full::<Bytes>::default()).ok()?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.ok()?;
            // The connection ends with the answer, or with this.
            let mut serving = JoinSet::new();
            serving.spawn(connection);
            let response = sender.send_request(request).await.ok()?;
            Some(expected_statuses.contains(&response.status().as_u16()))
        }
        Probe::Grpc { service } => is_serving(wire, endpoint, service).await,
    }
}

fn scheme(endpoint: &Endpoint) -> &'static str {
    if endpoint.tls.is_some() { "https" } else { "http" }
}

async fn by_http2_asked(wire: Box<dyn Wire>, request: Request<Full<Bytes>>) -> Option<Response<Bytes>> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.ok()?;
    // The connection ends with the answer, or with this.
    let mut serving = JoinSet::new();
    serving.spawn(connection);
    let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await.ok()?.to_bytes();
    Some(Response::from_parts(parts, body))
}

async fn is_serving(wire: Box<dyn Wire>, endpoint: &Endpoint, service: &str) -> Option<bool> {
    // One field, a string (protobuf: field 1, length-delimited), whose length takes one byte up to 127.
    let length = u8::try_from(service.len()).ok().filter(|length| *length < 128)?;
    let message = if length == 0 { Vec::new() } else { [&[0x0a, length], service.as_bytes()].concat() };
    let size = u32::try_from(message.len()).ok()?.to_be_bytes();
    let body = [&[0][..], &size, &message].concat();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}://{}/grpc.health.v1.Health/Check", scheme(endpoint), endpoint.name))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(Full::new(Bytes::from(body)))
        .ok()?;
    let answer = by_http2_asked(wire, request).await?;
    Some(answer.body().get(5..) == Some(&SERVING))
}
