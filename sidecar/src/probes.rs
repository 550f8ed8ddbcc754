//! Requests that the proxy makes on a schedule: the application is asked, and what it answers is logged and counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::config::{Backend, Config, Probe, ProbeTarget};
use crate::http::Common;
use crate::observe::access_log::AccessLog;
use crate::observe::probes::{ProbeCounts, ProbeLine};
use crate::observe::recorded::shown;
use crate::tls;
use crate::upstream::cluster::At;

/// What of an answer is read.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// The probes of an instance. They end with this.
pub struct Probes {
    common: Arc<Common>,
    counts: ProbeCounts,
    log: Option<AccessLog>,
    instance: Arc<str>,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    probe: Probe,
    backend: Option<Backend>,
    _task: JoinSet<()>,
}

/// A connection.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What became of a request.
#[derive(Default)]
struct Outcome {
    endpoint: String,
    status: u16,
    reason: Option<String>,
    bytes: u64,
    beginning: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("no endpoint")]
    NoEndpoint,
    #[error("connect: {0}")]
    Connect(std::io::Error),
    #[error("tls: {0}")]
    Tls(std::io::Error),
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    #[error("request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the answer is longer than {ANSWER_BYTES} bytes")]
    TooLong,
}

// === impl Probes ===

impl Probes {
    /// None yet.
    pub fn new(common: Arc<Common>, instance: &str, log: Option<AccessLog>) -> Self {
        let running = Mutex::default();
        Self { common, counts: ProbeCounts::default(), log, instance: instance.into(), running }
    }

    /// What they count.
    pub fn counts(&self) -> ProbeCounts {
        self.counts.clone()
    }

    /// From now on those of this configuration. One of which the same is said goes on. To be called within a runtime.
    pub fn replace(&self, config: &Config) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        for probe in &config.probes {
            let backend = match &probe.target {
                ProbeTarget::Backend(name) => config.backends.get(name).cloned(),
                ProbeTarget::Url(_) => None,
            };
            let same = |old: &Running| old.probe == *probe && old.backend == backend;
            let next = before.remove(&probe.name).filter(same).unwrap_or_else(|| {
                let mut task = JoinSet::new();
                task.spawn(keep_asking(
                    probe.clone(),
                    Arc::clone(&self.common),
                    self.counts.clone(),
                    self.log.clone(),
                    Arc::clone(&self.instance),
                ));
                Running { probe: probe.clone(), backend, _task: task }
            });
            running.insert(probe.name.clone(), next);
        }
        self.counts.keep(&config.probes.iter().map(|probe| probe.name.as_str()).collect::<Vec<_>>());
    }
}

/// One after the other, so that a slow application is not asked twice at a time. The first one comes at some moment of the
/// interval: many proxies that start together do not ask together.
async fn keep_asking(
    probe: Probe,
    common: Arc<Common>,
    counts: ProbeCounts,
    log: Option<AccessLog>,
    instance: Arc<str>,
) {
    let first = Instant::now() + probe.interval.mul_f64(fastrand::f64());
    let mut ticks = interval_at(first, probe.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let started = Instant::now();
        let mut outcome = Outcome::default();
        let reason = match timeout(probe.timeout, ask(&probe, &common, &mut outcome)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("timeout".to_owned()),
        };
        // An answer that broke off is none.
        if reason.is_some() {
            outcome.status = 0;
        }
        outcome.reason = reason;
        let duration = started.elapsed();
        let expected = probe.expected_statuses.contains(&outcome.status);
        counts.count(&probe.name, outcome.status, duration, expected);
        if let Some(log) = &log {
            log.write_probe(Box::new(line(&probe, &instance, outcome, duration, expected)));
        }
    }
}

fn line(
    probe: &Probe,
    instance: &Arc<str>,
    outcome: Outcome,
    duration: Duration,
    expected: bool,
) -> ProbeLine {
    let Outcome { endpoint, status, reason, bytes, beginning } = outcome;
    let cut = bytes > beginning.len() as u64;
    ProbeLine {
        probe: probe.name.clone(),
        instance: Arc::clone(instance),
        endpoint,
        method: probe.method.to_string(),
        path: probe.path.to_string(),
        status,
        expected,
        reason,
        duration_ms: duration.as_secs_f64() * 1e3,
        response_bytes: bytes,
        response_body: (probe.log_body > 0).then(|| shown(&beginning, cut)),
    }
}

async fn ask(probe: &Probe, common: &Common, outcome: &mut Outcome) -> Result<(), ProbeError> {
    let (wire, secure, by_http2) = connect(probe, common, &mut outcome.endpoint).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = probe.method.clone();
    *request.headers_mut() = probe.headers.clone();
    let agent = HeaderValue::from_static(concat!("sidecar-probe/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().entry(USER_AGENT).or_insert(agent);
    // A host that the probe names, else whom it asks.
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let own = if outcome.endpoint.starts_with('/') { "localhost" } else { &outcome.endpoint };
    let host = named.unwrap_or_else(|| own.to_owned());
    // The connection ends with the answer, or with this.
    let mut serving = JoinSet::new();
    let response = if by_http2 {
        request.headers_mut().remove(HOST);
        let scheme = if secure { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(probe.path.clone());
        *request.uri_mut() = uri.build()?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await?;
        serving.spawn(connection);
        sender.send_request(request).await?
    } else {
        let host = HeaderValue::from_str(&host).map_err(hyper::http::Error::from)?;
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = Uri::from(probe.path.clone());
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
        serving.spawn(connection);
        sender.send_request(request).await?
    };
    read(response, probe.log_body, outcome).await
}

async fn connect(
    probe: &Probe,
    common: &Common,
    endpoint: &mut String,
) -> Result<(Box<dyn Wire>, bool, bool), ProbeError> {
    let backend = match &probe.target {
        ProbeTarget::Url(url) => {
            let authority = url.authority().map(ToString::to_string).unwrap_or_default();
            let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
            let port = url.port_u16().unwrap_or(80);
            *endpoint = authority;
            let stream = TcpStream::connect((host, port)).await.map_err(ProbeError::Connect)?;
            return Ok((Box::new(stream), false, false));
        }
        ProbeTarget::Backend(backend) => backend,
    };
    let (chosen, by_http2) = common.pick(backend, &probe.headers).ok_or(ProbeError::NoEndpoint)?;
    endpoint.clone_from(&chosen.endpoint.name);
    let wire: Box<dyn Wire> = match &chosen.endpoint.at {
        At::Tcp(address) => Box::new(TcpStream::connect(address).await.map_err(ProbeError::Connect)?),
        At::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(ProbeError::Connect)?),
    };
    let Some(peer) = &chosen.endpoint.tls else { return Ok((wire, false, by_http2)) };
    let offers: &[&[u8]] = if by_http2 { &[tls::HTTP2] } else { &[tls::HTTP1] };
    let wire = peer.connect(wire, offers).await.map_err(ProbeError::Tls)?;
    Ok((Box::new(wire), true, by_http2))
}

/// Reads the answer to its end, and keeps its beginning.
async fn read(response: Response<Incoming>, keep: usize, outcome: &mut Outcome) -> Result<(), ProbeError> {
    outcome.status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let more = data.len().min(keep - outcome.beginning.len());
            outcome.beginning.extend_from_slice(&data[..more]);
            outcome.bytes += data.len() as u64;
            if outcome.bytes > ANSWER_BYTES {
                return Err(ProbeError::TooLong);
            }
        }
    }
    Ok(())
}
