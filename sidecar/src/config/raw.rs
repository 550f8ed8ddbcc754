//! The documents as they are written: shape only. Every value is kept as text with its place, so that what is
//! wrong with values can be reported all at once. A field called `value` must hold a scalar (see `document::path`).

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

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

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProxyConfig {
    pub interception: Option<Interception>,
    pub ports: Option<Ports>,
    pub listeners: Vec<Listener>,
    pub protocol_detection: Option<ProtocolDetection>,
    pub limits: Option<Limits>,
    pub timeouts: Option<Timeouts>,
    pub access_log: Option<AccessLog>,
    pub tracing: Option<Tracing>,
    pub headers: Option<Headers>,
    pub probes: Vec<Spanned<Probe>>,
    pub allow_connect: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Interception {
    pub mode: Option<Text>,
    pub bypass: Option<Text>,
    pub bypass_rules: Vec<BypassRule>,
    pub on_proxy_down: Option<Text>,
    pub outbound: Option<Outbound>,
    pub inbound: Option<Inbound>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BypassRule {
    #[serde(default)]
    pub ports: Vec<Text>,
    #[serde(default)]
    pub programs: Vec<Text>,
    #[serde(default)]
    pub cgroups: Vec<Text>,
    pub bypass: Text,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Outbound {
    pub capture_loopback: Option<Text>,
    #[serde(rename = "includeCIDRs")]
    pub include_cidrs: Vec<Text>,
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<Text>,
    pub include_ports: Vec<Text>,
    pub exclude_ports: Vec<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Inbound {
    pub include_ports: Vec<Text>,
    pub exclude_ports: Vec<Text>,
    #[serde(rename = "includeCIDRs")]
    pub include_cidrs: Vec<Text>,
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Ports {
    pub outbound: Option<Text>,
    pub inbound: Option<Text>,
    pub admin: Option<Text>,
    pub metrics: Option<Text>,
    pub health: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub name: Text,
    pub address: Text,
    pub forward: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProtocolDetection {
    pub timeout: Option<Text>,
    pub opaque_ports: Option<Vec<Text>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Limits {
    pub max_connections: Option<Text>,
    pub max_request_header_bytes: Option<Text>,
    pub max_request_headers: Option<Text>,
    pub request_header_timeout: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Timeouts {
    pub connect: Option<Text>,
    pub idle: Option<Text>,
    pub drain: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Headers {
    pub via: Option<Text>,
    pub forwarded: Option<Text>,
    pub captured: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AccessLog {
    pub format: Option<Text>,
    pub path: Option<Text>,
    pub record: Option<Record>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Record {
    pub request_headers: Option<Text>,
    pub response_headers: Option<Text>,
    pub body: Option<Text>,
    pub redact: Option<Vec<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Probe {
    pub name: Text,
    pub backend: Option<Text>,
    pub url: Option<Text>,
    pub path: Option<Text>,
    pub method: Option<Text>,
    #[serde(default)]
    pub headers: Vec<Spanned<ProbeHeader>>,
    pub interval: Option<Text>,
    pub timeout: Option<Text>,
    pub expected_statuses: Option<Vec<Text>>,
    pub log_body: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeHeader {
    pub name: Text,
    pub value: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tracing {
    pub otlp: Otlp,
    pub sampling: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Otlp {
    pub endpoint: Text,
    pub protocol: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Backend {
    pub protocol: Option<Text>,
    pub tls: Option<Spanned<Tls>>,
    pub endpoints: Vec<Spanned<Endpoint>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Tls {
    pub hostname: Option<Text>,
    pub ca_certificates: Option<Text>,
    pub client_certificate: Option<Text>,
    pub client_key: Option<Text>,
    pub insecure_skip_verify: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    pub address: Option<Text>,
    pub dns: Option<Text>,
    pub unix: Option<Text>,
    pub weight: Option<Text>,
    pub zone: Option<Text>,
}
