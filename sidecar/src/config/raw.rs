//! The documents as they are written: shape only. Every value is kept as text with its place, so that what is
//! wrong with values can be reported all at once.

use super::model::{Bypass, Forwarded, LogFormat, Mode, OnProxyDown, OtlpProtocol, Protocol};
use super::schema;
use super::shape::Spanned;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A scalar and where it stands.
pub(super) type Text = Spanned<String>;

/// What every document has, whatever its kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub api_version: Text,
    pub kind: Text,
    pub metadata: HeaderMetadata,
}

#[derive(Deserialize)]
pub(super) struct HeaderMetadata {
    pub name: Text,
    pub namespace: Option<Text>,
}

/// A document of one of our own kinds, whose header was read as a [`Header`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: Metadata,
    pub spec: Option<S>,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    #[serde(rename = "namespace")]
    _namespace: Option<IgnoredAny>,
    #[serde(rename = "labels")]
    _labels: Option<IgnoredAny>,
    #[serde(rename = "annotations")]
    _annotations: Option<IgnoredAny>,
    // What Kubernetes adds to an object that it stores (ObjectMeta).
    #[serde(rename = "creationTimestamp")]
    _creation_timestamp: Option<IgnoredAny>,
    #[serde(rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: Option<IgnoredAny>,
    #[serde(rename = "deletionTimestamp")]
    _deletion_timestamp: Option<IgnoredAny>,
    #[serde(rename = "finalizers")]
    _finalizers: Option<IgnoredAny>,
    #[serde(rename = "generateName")]
    _generate_name: Option<IgnoredAny>,
    #[serde(rename = "generation")]
    _generation: Option<IgnoredAny>,
    #[serde(rename = "managedFields")]
    _managed_fields: Option<IgnoredAny>,
    #[serde(rename = "ownerReferences")]
    _owner_references: Option<IgnoredAny>,
    #[serde(rename = "resourceVersion")]
    _resource_version: Option<IgnoredAny>,
    #[serde(rename = "selfLink")]
    _self_link: Option<IgnoredAny>,
    #[serde(rename = "uid")]
    _uid: Option<IgnoredAny>,
}

/// What one proxy does, as a whole.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProxyConfig {
    /// Which traffic is handed to the proxy, and how.
    pub interception: Option<Interception>,
    /// The proxy's own ports.
    pub ports: Option<Ports>,
    /// Listeners of its own: a plain reverse proxy, without interception.
    pub listeners: Vec<Listener>,
    /// How it finds out what a connection speaks.
    pub protocol_detection: Option<ProtocolDetection>,
    /// Bounds on what clients may ask for.
    pub limits: Option<Limits>,
    /// How long the proxy waits for others.
    pub timeouts: Option<Timeouts>,
    /// One line for each connection or request.
    pub access_log: Option<AccessLog>,
    /// Spans for a collector. Without it: no tracing.
    pub tracing: Option<Tracing>,
    /// What requests and answers say of their way.
    pub headers: Option<Headers>,
    /// Captured requests of CONNECT go where they were meant to. Default: false, they are refused.
    #[schemars(with = "Option<schema::Boolean>")]
    pub allow_connect: Option<Text>,
    /// Requests that the proxy sends the application on a schedule.
    pub probes: Vec<Spanned<Probe>>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Interception {
    /// What hands the traffic over. Default: ebpf. With none, only explicit listeners are served.
    #[schemars(with = "Option<schema::Choice<Mode>>")]
    pub mode: Option<Text>,
    /// Whether bytes may skip the TCP stack. Default: auto.
    #[schemars(with = "Option<schema::Choice<Bypass>>")]
    pub bypass: Option<Text>,
    /// Where that is otherwise; the first rule that matches counts.
    pub bypass_rules: Vec<BypassRule>,
    /// Whether they may also between two proxies of one machine, where no network policy and no tcpdump sees them. Default: false.
    #[schemars(with = "Option<schema::Boolean>")]
    pub bypass_same_node: Option<Text>,
    /// What happens to captured traffic while no proxy listens. open (default): it passes untouched; closed: it is refused.
    #[schemars(with = "Option<schema::Choice<OnProxyDown>>")]
    pub on_proxy_down: Option<Text>,
    /// Connections that the application opens. Default: all TCP but to loopback.
    pub outbound: Option<Outbound>,
    /// Connections that the application accepts, on ports where it listens.
    pub inbound: Option<Inbound>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BypassRule {
    /// Ports of services, dialled or served. Empty: all.
    #[schemars(with = "Vec<schema::Port>")]
    #[serde(default)]
    pub ports: Vec<Text>,
    /// Names of programs as ps -o comm shows them. Empty: all.
    #[serde(default)]
    pub programs: Vec<Text>,
    /// Paths of cgroups from the hierarchy's root. Empty: all.
    #[serde(default)]
    pub cgroups: Vec<Text>,
    /// What holds for these.
    #[schemars(with = "schema::Choice<Bypass>")]
    pub bypass: Text,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Outbound {
    /// Also destinations on loopback. Default: false.
    #[schemars(with = "Option<schema::Boolean>")]
    pub capture_loopback: Option<Text>,
    /// Destinations that are captured. Default: all.
    #[serde(rename = "includeCIDRs")]
    pub include_cidrs: Vec<Text>,
    /// Destinations that are not; beats what includes.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<Text>,
    /// Ports that are captured. Default: all.
    #[schemars(with = "Vec<schema::Port>")]
    pub include_ports: Vec<Text>,
    /// Ports that are not; beats what includes.
    #[schemars(with = "Vec<schema::Port>")]
    pub exclude_ports: Vec<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Inbound {
    /// Ports that are captured. Default: all.
    #[schemars(with = "Vec<schema::Port>")]
    pub include_ports: Vec<Text>,
    /// Ports that are not; beats what includes.
    #[schemars(with = "Vec<schema::Port>")]
    pub exclude_ports: Vec<Text>,
    /// Clients whose connections are captured. Default: all.
    #[serde(rename = "includeCIDRs")]
    pub include_cidrs: Vec<Text>,
    /// Clients whose connections are not; beats what includes.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Ports {
    /// Takes connections that the application opens. 0: any that is free.
    #[schemars(with = "Option<schema::PortOrFree>")]
    pub outbound: Option<Text>,
    /// Takes connections to the application. 0: any that is free.
    #[schemars(with = "Option<schema::PortOrFree>")]
    pub inbound: Option<Text>,
    /// The admin service, on loopback. 0: any that is free.
    #[schemars(with = "Option<schema::PortOrFree>")]
    pub admin: Option<Text>,
    /// Metrics at /metrics. 0: any that is free.
    #[schemars(with = "Option<schema::PortOrFree>")]
    pub metrics: Option<Text>,
    /// Health at /healthz/ready and /healthz/live. 0: any that is free.
    #[schemars(with = "Option<schema::PortOrFree>")]
    pub health: Option<Text>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// Its name, by which routes call it.
    pub name: Text,
    /// An address and port.
    pub address: Text,
    /// A Backend that gets everything; without it, routes decide.
    pub forward: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProtocolDetection {
    /// For the first bytes of a client. Default: 5s.
    #[schemars(with = "Option<schema::Duration>")]
    pub timeout: Option<Text>,
    /// Ports whose bytes are forwarded at once, since the server speaks first there.
    #[schemars(with = "Option<Vec<schema::Port>>")]
    pub opaque_ports: Option<Vec<Text>>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Limits {
    /// Connections at a time. Default: 65536; the kernel half of a Pod has room for 8192 then.
    #[schemars(with = "Option<schema::Count>")]
    pub max_connections: Option<Text>,
    /// The header of one request. Default: 64KiB.
    #[schemars(with = "Option<schema::Bytes>")]
    pub max_request_header_bytes: Option<Text>,
    /// Fields in it. Default: 100.
    #[schemars(with = "Option<schema::Count>")]
    pub max_request_headers: Option<Text>,
    /// For the whole of it. Default: 10s.
    #[schemars(with = "Option<schema::Duration>")]
    pub request_header_timeout: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Timeouts {
    /// For a connection to an upstream. Default: 5s.
    #[schemars(with = "Option<schema::Duration>")]
    pub connect: Option<Text>,
    /// A connection without bytes is closed after it. Default: 1h.
    #[schemars(with = "Option<schema::Duration>")]
    pub idle: Option<Text>,
    /// For what is under way when the proxy ends. Default: 30s.
    #[schemars(with = "Option<schema::Duration>")]
    pub drain: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Headers {
    /// The proxy's name in Via, or "off".
    pub via: Option<Text>,
    /// What becomes of the fields that say who asked. Default: append.
    #[schemars(with = "Option<schema::Choice<Forwarded>>")]
    pub forwarded: Option<Text>,
    /// The same also for requests that were captured. Default: false.
    #[schemars(with = "Option<schema::Boolean>")]
    pub captured: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AccessLog {
    /// json (default), text or "off"; write the last with quotes.
    #[schemars(with = "Option<schema::Choice<LogFormat>>")]
    pub format: Option<Text>,
    /// A file. Default: /dev/stdout.
    pub path: Option<Text>,
    /// Header fields and the beginning of bodies as well. Default: none.
    pub record: Option<Record>,
}

/// What of requests and answers is recorded.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Record {
    /// The fields of a request's header.
    #[schemars(with = "Option<schema::Boolean>")]
    pub request_headers: Option<Text>,
    /// The fields of an answer's header.
    #[schemars(with = "Option<schema::Boolean>")]
    pub response_headers: Option<Text>,
    /// How much of each body.
    #[schemars(with = "Option<schema::Bytes>")]
    pub body: Option<Text>,
    /// Fields whose values are left out, in the place of those that hold secrets.
    pub redact: Option<Vec<Text>>,
}

/// A request that is sent on a schedule.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Probe {
    /// Its name in the log and in metrics.
    pub name: Text,
    /// Who is asked: a Backend, or a `url` in its place.
    pub backend: Option<Text>,
    /// Who is asked: such as http://127.0.0.1:8080/.
    pub url: Option<Text>,
    /// What a Backend is asked for. Default: /.
    pub path: Option<Text>,
    /// Default: GET.
    pub method: Option<Text>,
    /// Fields of the request's header.
    #[serde(default)]
    pub headers: Vec<Spanned<ProbeHeader>>,
    /// From one request to the next.
    #[schemars(with = "Option<schema::Duration>")]
    pub interval: Option<Text>,
    /// How long an answer may take.
    #[schemars(with = "Option<schema::Duration>")]
    pub timeout: Option<Text>,
    /// Statuses of a good answer.
    #[schemars(with = "Option<Vec<schema::Count>>")]
    pub expected_statuses: Option<Vec<Text>>,
    /// How much of an answer's body is logged. Default: nothing.
    #[schemars(with = "Option<schema::Bytes>")]
    pub log_body: Option<Text>,
}

/// A field of a request's header.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeHeader {
    /// Its name.
    pub name: Text,
    /// Its value.
    pub value: Text,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tracing {
    /// Where spans go.
    pub otlp: Otlp,
    /// Which share of the requests is traced, such as 1% (the default).
    #[schemars(with = "Option<schema::Share>")]
    pub sampling: Option<Text>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Otlp {
    /// A URL, such as http://127.0.0.1:4317.
    pub endpoint: Text,
    /// How it is spoken to. Default: grpc.
    #[schemars(with = "Option<schema::Choice<OtlpProtocol>>")]
    pub protocol: Option<Text>,
}

/// Where requests and connections may go: endpoints that serve the same.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Backend {
    /// What its endpoints speak. Default: auto, as the client does.
    #[schemars(with = "Option<schema::Choice<Protocol>>")]
    pub protocol: Option<Text>,
    /// Requests go over TLS.
    pub tls: Option<Spanned<Tls>>,
    /// At least one.
    pub endpoints: Vec<Spanned<Endpoint>>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Tls {
    /// Whom certificates must name, and what is asked for. Default: the endpoint's own name.
    pub hostname: Option<Text>,
    /// A file with the authorities to believe. Default: the system's.
    pub ca_certificates: Option<Text>,
    /// A file with the proxy's own certificate.
    pub client_certificate: Option<Text>,
    /// A file with its key.
    pub client_key: Option<Text>,
    /// Believes anyone. Default: false.
    #[schemars(with = "Option<schema::Boolean>")]
    pub insecure_skip_verify: Option<Text>,
}

/// One endpoint: an address, a name or a Unix socket.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    /// An IP address and port.
    pub address: Option<Text>,
    /// A name and port; each of its addresses is an endpoint.
    pub dns: Option<Text>,
    /// The path of a Unix socket.
    pub unix: Option<Text>,
    /// Its share of the requests, beside the others'. Default: 1.
    #[schemars(with = "Option<schema::Count>")]
    pub weight: Option<Text>,
    /// The zone that it is in.
    pub zone: Option<Text>,
}
