//! The validated configuration. Defaults are what holds where the files say nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Uri};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize, Serializer};

use super::access::AccessPolicy;
use super::route::Routes;
use super::tls::BackendTls;
use super::traffic::TrafficPolicy;
use super::value::{duration, percent::Percent};

/// All that the files say, with the defaults filled in. The default is "no configuration at all".
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Which traffic is handed to the proxy, and how.
    pub interception: Interception,
    /// The proxy's own ports.
    pub ports: Ports,
    /// Explicit listeners, with distinct names and addresses.
    pub listeners: Vec<Listener>,
    /// Backends by name.
    pub backends: BTreeMap<String, Backend>,
    /// Traffic policies, in the order of the files.
    pub traffic: Vec<TrafficPolicy>,
    /// Who may do what, in the order of the files.
    pub access: Vec<AccessPolicy>,
    /// Where requests and connections go.
    pub routes: Routes,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
    /// How long the proxy waits for others.
    pub timeouts: Timeouts,
    /// One line for each connection or request.
    pub access_log: AccessLog,
    /// Spans for a collector; `None`: no tracing.
    pub tracing: Option<Tracing>,
    /// How the protocol of a connection is found out.
    pub protocol_detection: ProtocolDetection,
    /// What requests and answers say of their way.
    pub headers: Headers,
    /// Requests that the proxy makes on a schedule, of different names.
    pub probes: Vec<Probe>,
    /// Captured requests of CONNECT go where they were meant to; else they are refused.
    pub allow_connect: bool,
    /// What is accepted, but has no effect in this version.
    pub unused: Vec<Unused>,
}

/// Which traffic is handed to the proxy, and how.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interception {
    /// What hands the traffic over.
    pub mode: Mode,
    /// Whether bytes may skip the TCP stack.
    pub bypass: Bypass,
    /// Where it is another than [`Self::bypass`]; the first that matches counts.
    pub bypass_rules: Vec<BypassRule>,
    /// Also between proxies of different instances of the machine.
    pub bypass_same_node: bool,
    /// What happens to captured traffic while no proxy listens.
    pub on_proxy_down: OnProxyDown,
    /// Connections that the application opens.
    pub outbound: Outbound,
    /// Connections that the application accepts.
    pub inbound: Inbound,
}

/// What hands traffic to the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// eBPF programs on the cgroup and the network namespace.
    #[default]
    Ebpf,
    /// NAT rules in the network namespace.
    Iptables,
    /// Nothing: only explicit listeners are served.
    None,
}

/// Whether bytes may go from socket to socket without the TCP stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Bypass {
    /// Never.
    Off,
    /// What programs send to the proxy.
    ToProxy,
    /// Both ways, for programs that have earned it; refused on a kernel that fails the self-test.
    Full,
    /// The same for programs with an event loop; off on a kernel that fails the self-test.
    #[default]
    Auto,
}

/// Connections for which the bypass is set on its own: those that all lists name. An empty list names all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BypassRule {
    /// Ports of services, dialled or served.
    pub ports: Vec<u16>,
    /// Names of programs, as the kernel has them (`comm`, up to 15 bytes).
    pub programs: Vec<String>,
    /// Paths of cgroups from the hierarchy's root, with a leading slash.
    pub cgroups: Vec<String>,
    /// What holds for them.
    pub bypass: Bypass,
}

/// What happens to captured traffic while no proxy listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnProxyDown {
    /// It passes untouched.
    #[default]
    Open,
    /// It is refused.
    Closed,
}

/// Which connections that the application opens are captured. An exclusion beats an inclusion.
///
/// Networks and ports are sorted, without duplicates; networks have no host bits and no IPv4-mapped form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outbound {
    /// Also destinations on loopback.
    pub capture_loopback: bool,
    /// Destinations that are captured; never empty, by default all.
    #[serde(rename = "includeCIDRs")]
    pub include_cidrs: Vec<IpNet>,
    /// Destinations that are not.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<IpNet>,
    /// Destination ports that are captured; empty: all.
    pub include_ports: Vec<u16>,
    /// Destination ports that are not.
    pub exclude_ports: Vec<u16>,
}

/// Which connections that the application accepts are captured, among the ports on which it listens.
/// An exclusion beats an inclusion; the lists are kept as those of [`Outbound`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Inbound {
    /// Ports that are captured; empty: all.
    pub include_ports: Vec<u16>,
    /// Ports that are not.
    pub exclude_ports: Vec<u16>,
    /// Clients whose connections are captured; never empty, by default all.
    #[serde(rename = "includeCIDRs")]
    pub include_cidrs: Vec<IpNet>,
    /// Clients whose connections are not.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<IpNet>,
}

/// The proxy's own ports, all different. `None`: the configuration fixes none (never `Some(0)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ports {
    /// Takes captured outbound connections.
    pub outbound: Option<u16>,
    /// Takes captured inbound connections.
    pub inbound: Option<u16>,
    /// The admin service, on loopback.
    pub admin: Option<u16>,
    /// Metrics.
    pub metrics: Option<u16>,
    /// Health and readiness.
    pub health: Option<u16>,
}

/// An explicit listener.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its name, a DNS name, by which routes refer to it.
    pub name: String,
    /// Where it listens; port 0: any free one.
    pub address: SocketAddr,
    /// The backend that gets its connections, a key of [`Config::backends`]. `None`: routes decide.
    pub forward: Option<String>,
}

/// A named set of endpoints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Its name, a DNS name.
    pub name: String,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// How they are spoken to in secret. `None`: they are not.
    pub tls: Option<BackendTls>,
    /// At least one, of which at least one has a weight.
    pub endpoints: Vec<Endpoint>,
}

/// What endpoints speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// Bytes.
    Tcp,
    /// What the client speaks.
    #[default]
    Auto,
}

/// One place that serves a [`Backend`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Where it is.
    #[serde(flatten)]
    pub target: Target,
    /// Its share, relative to the sum of its backend's weights; 0: it gets nothing.
    pub weight: u32,
    /// Where it runs, for locality.
    pub zone: Option<String>,
}

/// Where an [`Endpoint`] is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// An address, never IPv4-mapped, with a port that is not 0.
    Address(SocketAddr),
    /// A name to look up.
    #[serde(serialize_with = "display")]
    Dns(DnsPort),
    /// The absolute path of a Unix socket, which fits `sun_path` (unix(7)).
    Unix(PathBuf),
}

/// A DNS name and a port. Displays as `NAME:PORT`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DnsPort {
    /// The name, in lower case.
    pub name: String,
    /// The port, not 0.
    pub port: u16,
}

/// Bounds on what clients may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Connections at a time; `None`: as [`Limits::connections`] says.
    #[serde(serialize_with = "effective_connections")]
    pub max_connections: Option<usize>,
    /// The size of a request's header, in bytes.
    pub max_request_header_bytes: usize,
    /// The number of a request's header fields.
    pub max_request_headers: usize,
    /// From the first byte of a request to the end of its header.
    #[serde(serialize_with = "duration::serialize")]
    pub request_header_timeout: Duration,
}

/// How long the proxy waits for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// For a connection to the upstream; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub connect: Duration,
    /// For a byte in either direction; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub idle: Duration,
    /// For open connections to end by themselves when the proxy stops; zero: not at all.
    #[serde(serialize_with = "duration::serialize")]
    pub drain: Duration,
}

/// Where one line for each connection or request goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// What a line looks like.
    pub format: LogFormat,
    /// The file that lines are appended to.
    pub path: PathBuf,
    /// What of requests and answers is in their lines; `None`: nothing of their fields and bodies.
    pub record: Option<Recording>,
}

/// What of requests and answers is in the lines of the access log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// The header fields of requests.
    pub request_headers: bool,
    /// Those of answers.
    pub response_headers: bool,
    /// So many bytes of each body.
    pub body: usize,
    /// Fields whose values are not shown, in lower case, sorted.
    pub redact: Vec<String>,
}

/// A request that the proxy makes on a schedule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Its name, a DNS name.
    pub name: String,
    /// Who is asked.
    pub target: ProbeTarget,
    /// For what.
    #[serde(serialize_with = "display")]
    pub path: PathAndQuery,
    /// How.
    #[serde(serialize_with = "display")]
    pub method: Method,
    /// With these fields beside.
    #[serde(serialize_with = "names")]
    pub headers: HeaderMap,
    /// How often; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub interval: Duration,
    /// For the whole answer; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// The answers that are good; not empty, sorted.
    pub expected_statuses: Vec<u16>,
    /// So many bytes of the answer are logged.
    pub log_body: usize,
}

/// Who is asked by a [`Probe`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeTarget {
    /// An endpoint of a backend, a key of [`Config::backends`].
    Backend(String),
    /// An `http` URL without a path.
    #[serde(serialize_with = "display")]
    Url(Uri),
}

/// What a line of the access log looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// A JSON object.
    #[default]
    Json,
    /// Words.
    Text,
    /// There is no access log.
    Off,
}

/// Spans for a collector.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Where they go.
    pub otlp: Otlp,
    /// The share of traces that begin here and are recorded.
    pub sampling: Percent,
}

/// A collector that speaks the OpenTelemetry protocol.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Otlp {
    /// An `http` or `https` URL.
    #[serde(serialize_with = "display")]
    pub endpoint: Uri,
    /// What it speaks.
    pub protocol: OtlpProtocol,
}

/// The transport of the OpenTelemetry protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OtlpProtocol {
    /// gRPC.
    #[default]
    Grpc,
    /// Protobuf in HTTP requests.
    Http,
}

/// How the protocol of a connection is found out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtocolDetection {
    /// How long to wait for a client's first bytes before the connection is taken as bytes; not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// Ports on which the server may speak first, so that nothing is waited for; sorted.
    pub opaque_ports: Vec<u16>,
}

/// What requests and answers say of their way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Headers {
    /// The proxy's name in `via`; `None`: it does not show.
    pub via: Option<String>,
    /// What becomes of `x-forwarded-for`, `-proto` and `-host`.
    pub forwarded: Forwarded,
    /// Both also of captured traffic, not only at explicit listeners.
    pub captured: bool,
}

/// What becomes of the fields that say who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarded {
    /// The client is added to what it sent.
    #[default]
    Append,
    /// The client is put in the place of what it sent: it is not trusted.
    Replace,
    /// Nothing.
    Keep,
    /// What the client sent is taken out.
    Remove,
}

/// Something that is valid, but has no effect in this version. Displays as a warning of one line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unused {
    /// Its kind, such as `HTTPRoute`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub location: Location,
}

/// A place in a file. Displays as `FILE:LINE`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The file, as it was named to us.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
}

// === impl ===

/// Every IPv4 and every IPv6 address.
fn everything() -> Vec<IpNet> {
    vec![Ipv4Net::default().into(), Ipv6Net::default().into()]
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            capture_loopback: false,
            include_cidrs: everything(),
            exclude_cidrs: Vec::new(),
            include_ports: Vec::new(),
            exclude_ports: Vec::new(),
        }
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            include_ports: Vec::new(),
            exclude_ports: Vec::new(),
            include_cidrs: everything(),
            exclude_cidrs: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_request_header_bytes: 64 * 1024,
            max_request_headers: 100,
            request_header_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// What the proxy serves at a time.
    pub fn connections(&self) -> usize {
        self.max_connections.unwrap_or(65_536)
    }
}

#[expect(clippy::ref_option, reason = "serde's form")]
fn effective_connections<S: serde::Serializer>(
    max_connections: &Option<usize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let limits = Limits { max_connections: *max_connections, ..Limits::default() };
    serializer.serialize_u64(limits.connections() as u64)
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(60 * 60),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for AccessLog {
    /// Standard error: standard output belongs to results, and under `run` to the application.
    fn default() -> Self {
        Self { format: LogFormat::default(), path: PathBuf::from("/dev/stderr"), record: None }
    }
}

impl Default for Recording {
    /// Nothing; and what would be recorded names nobody's secrets.
    fn default() -> Self {
        let redact = ["authorization", "cookie", "proxy-authorization", "set-cookie"];
        Self {
            request_headers: false,
            response_headers: false,
            body: 0,
            redact: redact.map(str::to_owned).into(),
        }
    }
}

impl Recording {
    /// Something is recorded.
    pub fn is_on(&self) -> bool {
        self.request_headers || self.response_headers || self.body > 0
    }
}

impl Default for ProtocolDetection {
    /// The opaque ports are those of `MySQL`, `PostgreSQL` and Redis.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), opaque_ports: vec![3306, 5432, 6379] }
    }
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: kind: {} {:?} is not acted on yet", self.location, self.kind, self.name)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Display for DnsPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// Values may be secrets.
fn names<S: Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.keys().map(hyper::header::HeaderName::as_str))
}

pub(super) fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
