//! Routes, Services and fixed answers, checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde::Serialize;

use super::dump;
use super::hostname::Hostname;
use super::pattern::Pattern;
use crate::config::ObjectName;
use crate::config::value::duration;

/// Where requests and connections go.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Routes {
    /// Routes of requests: HTTPRoutes, and GRPCRoutes in the form of such.
    pub http: Vec<HttpRoute>,
    /// Routes of connections.
    pub tcp: Vec<TcpRoute>,
    /// Routes of TLS connections that are passed through.
    pub tls: Vec<TlsRoute>,
    /// Services by name, with the endpoints of their slices.
    #[serde(serialize_with = "dump::named")]
    pub services: BTreeMap<ObjectName, Service>,
    /// Fixed answers by name.
    pub responses: BTreeMap<String, DirectResponse>,
}

/// An HTTPRoute or GRPCRoute.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// Its name.
    pub name: ObjectName,
    /// It is a GRPCRoute.
    pub grpc: bool,
    /// Where it applies; at least one.
    pub parents: Vec<ParentRef>,
    /// The hosts it is for; empty: all. They do not count where the parent is a Service.
    pub hostnames: Vec<Hostname>,
    /// At least one.
    pub rules: Vec<HttpRule>,
}

/// A TCPRoute.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpRoute {
    /// Its name.
    pub name: ObjectName,
    /// Where it applies; at least one.
    pub parents: Vec<ParentRef>,
    /// Who gets the connections, by weight.
    pub backends: Vec<BackendRef>,
}

/// A TLSRoute.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRoute {
    /// Its name.
    pub name: ObjectName,
    /// Where it applies; at least one.
    pub parents: Vec<ParentRef>,
    /// The server names (SNI) it is for; empty: all.
    pub hostnames: Vec<Hostname>,
    /// Who gets the connections, by weight.
    pub backends: Vec<BackendRef>,
}

/// Where a route applies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ParentRef {
    /// To what goes out to a Service, which need not be among the documents.
    Service {
        /// The Service.
        name: ObjectName,
        /// Its port; `None`: every port.
        port: Option<u16>,
    },
    /// To what comes in for a port of this workload.
    Inbound {
        /// The port.
        port: u16,
    },
    /// To an explicit listener, which exists.
    Listener {
        /// Its name.
        name: String,
    },
}

/// What is done with requests that match.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRule {
    /// Its name within the route.
    pub name: Option<String>,
    /// Which requests; any of these, never empty.
    pub matches: Vec<HttpMatch>,
    /// What is done to them, at most one of each sort but mirrors.
    pub filters: Vec<Filter>,
    /// Who gets them, by weight. Empty: nobody, which is the status 500 unless a filter answers.
    pub backends: Vec<BackendRef>,
    /// How long they may take.
    pub timeouts: RuleTimeouts,
    /// When they are sent again.
    pub retry: Option<Retry>,
}

/// What a request must have, all of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// Its path.
    pub path: PathMatch,
    /// Its method; `None`: any.
    #[serde(serialize_with = "dump::optional")]
    pub method: Option<Method>,
    /// Its header fields, each name once, in lower case.
    pub headers: Vec<FieldMatch>,
    /// Its query parameters, each name once.
    pub query: Vec<FieldMatch>,
}

/// What a path must be.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// This.
    Exact(String),
    /// This, or something under it by whole elements; without a final slash, but for `/`.
    Prefix(String),
    /// Matched by this.
    Regex(Pattern),
}

/// What a header field or query parameter must be.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldMatch {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: TextMatch,
}

/// What a text must be.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TextMatch {
    /// This.
    Exact(String),
    /// Matched by this.
    Regex(Pattern),
}

/// What is done to a request or its response.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Header fields of the request are changed.
    RequestHeaders(HeaderEdits),
    /// Header fields of the response are changed.
    ResponseHeaders(HeaderEdits),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The request is forwarded under another host or path.
    Rewrite(Rewrite),
    /// A copy goes to another backend too, whose answer is ignored.
    Mirror(Mirror),
    /// Cross-origin requests are allowed.
    Cors(Cors),
    /// A fixed answer is given: a key of [`Routes::responses`].
    Respond(String),
}

/// Changes of header fields; each list has a name once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderEdits {
    /// Fields that get this value in place of all they have.
    #[serde(serialize_with = "dump::fields")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields that get this value besides what they have.
    #[serde(serialize_with = "dump::fields")]
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Fields that go.
    #[serde(serialize_with = "dump::each")]
    pub remove: Vec<HeaderName>,
}

/// Where a client is sent. What is `None` stays as in the request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathEdit>,
    /// The port.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A change of a path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathEdit {
    /// This in place of the path.
    Full(String),
    /// This in place of the prefix that matched.
    Prefix(String),
}

/// Under what a request is forwarded. What is `None` stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathEdit>,
}

/// Who else gets a copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// The backend.
    pub backend: BackendTarget,
    /// Of how many requests.
    pub fraction: Fraction,
}

/// A share: `numerator` of each `denominator`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fraction {
    /// At most the denominator.
    pub numerator: u32,
    /// Not 0.
    pub denominator: u32,
}

/// Which cross-origin requests are allowed (Fetch standard, "CORS protocol").
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// From where.
    pub allow_origins: Vec<OriginMatch>,
    /// With cookies and the like.
    pub allow_credentials: bool,
    /// With these methods, besides GET, HEAD and POST; `*` alone: all.
    pub allow_methods: Vec<String>,
    /// With these header fields; `*` alone: all.
    pub allow_headers: Vec<String>,
    /// Scripts may read these header fields of the response; `*` alone: all.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember this.
    #[serde(serialize_with = "duration::serialize")]
    pub max_age: Duration,
}

/// Which origins are meant. All text is in lower case.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OriginMatch {
    /// Every one.
    Any,
    /// Those of this scheme and port whose host is this.
    Exact {
        /// `http` or `https`.
        scheme: String,
        /// The host.
        host: String,
        /// The port, the scheme's own if none was written.
        port: u16,
    },
    /// Those of this scheme and port whose host ends so, with at least one more character before.
    Suffix {
        /// `http` or `https`.
        scheme: String,
        /// The end of the host, such as `.example.com`; empty: every host.
        suffix: String,
        /// The port, the scheme's own if none was written.
        port: u16,
    },
}

/// One of those who get a rule's requests.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// Who.
    pub target: BackendTarget,
    /// Its share, relative to the sum of the rule's weights; 0: it gets nothing.
    pub weight: u32,
    /// What is done to its requests alone.
    pub filters: Vec<Filter>,
}

/// Who gets requests or connections.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BackendTarget {
    /// A Backend, a key of `Config::backends`.
    Backend(String),
    /// A port of a Service, a key of [`Routes::services`].
    Service {
        /// The Service.
        name: ObjectName,
        /// Its port.
        port: u16,
    },
    /// Nobody, for this reason: its share of requests gets the status 500, its share of connections is closed.
    Invalid(String),
}

/// How long the requests of a rule may take. `None`: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleTimeouts {
    /// From the request's arrival to the end of its response, with all retries.
    #[serde(serialize_with = "dump::optional_duration")]
    pub request: Option<Duration>,
    /// For one attempt; at most `request`.
    #[serde(serialize_with = "dump::optional_duration")]
    pub backend_request: Option<Duration>,
}

/// When a request is sent again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often, besides the first time.
    pub attempts: u32,
    /// After these statuses, besides failures to connect; sorted.
    pub codes: Vec<u16>,
    /// At least this long between two attempts; `None`: the proxy's own choice.
    #[serde(serialize_with = "dump::optional_duration")]
    pub backoff: Option<Duration>,
}

/// A Service of Kubernetes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its own addresses; none if it is headless.
    pub cluster_ips: Vec<IpAddr>,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
    /// Who serves it, by its EndpointSlices.
    pub endpoints: Vec<ServiceEndpoint>,
}

/// A port of a [`Service`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name, by which endpoints refer to it.
    pub name: Option<String>,
    /// Its number at the cluster IPs.
    pub port: u16,
    /// Where endpoints listen.
    pub target: TargetPort,
    /// What it speaks, such as `kubernetes.io/h2c`.
    pub app_protocol: Option<String>,
}

/// Where the endpoints of a [`ServicePort`] listen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetPort {
    /// There.
    Number(u16),
    /// At the container's port of this name.
    Name(String),
}

/// A place that serves a [`Service`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEndpoint {
    /// Its address.
    pub address: IpAddr,
    /// The Service's port that it serves, by name.
    pub port_name: Option<String>,
    /// Where it listens.
    pub port: u16,
    /// It may be sent new connections.
    pub ready: bool,
    /// Where it runs, for locality.
    pub zone: Option<String>,
}

/// A fixed answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponse {
    /// Its name.
    pub name: String,
    /// From 200 to 599.
    pub status: u16,
    /// Its header fields, each name once.
    #[serde(serialize_with = "dump::fields")]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body; empty where the status has none.
    pub body: String,
}

impl Default for Fraction {
    /// The whole.
    fn default() -> Self {
        Self { numerator: 1, denominator: 1 }
    }
}

impl Service {
    /// Its port of this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number)
    }

    /// Its endpoints for this port of it.
    pub fn endpoints_of<'a>(&'a self, port: &'a ServicePort) -> impl Iterator<Item = &'a ServiceEndpoint> {
        // An empty name is that of a Service's only port.
        let name = port.name.as_deref().unwrap_or_default();
        self.endpoints
            .iter()
            .filter(move |endpoint| endpoint.port_name.as_deref().unwrap_or_default() == name)
    }
}
