//! Routes as they are written: shape only. The fields are those of the Gateway API 1.5.

use std::collections::BTreeMap;

use crate::config::shape::Spanned;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::config::raw::Text;
use crate::config::schema;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HttpRoute {
    pub parent_refs: Vec<Spanned<ParentRef>>,
    pub use_default_gateways: Option<Text>,
    pub hostnames: Vec<Text>,
    pub rules: Vec<Spanned<HttpRule>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct GrpcRoute {
    pub parent_refs: Vec<Spanned<ParentRef>>,
    pub use_default_gateways: Option<Text>,
    pub hostnames: Vec<Text>,
    pub rules: Vec<Spanned<GrpcRule>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TcpRoute {
    pub parent_refs: Vec<Spanned<ParentRef>>,
    pub use_default_gateways: Option<Text>,
    pub rules: Vec<Spanned<TcpRule>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TlsRoute {
    pub parent_refs: Vec<Spanned<ParentRef>>,
    pub use_default_gateways: Option<Text>,
    pub hostnames: Vec<Text>,
    pub rules: Vec<Spanned<TcpRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ParentRef {
    pub group: Option<Text>,
    pub kind: Option<Text>,
    pub namespace: Option<Text>,
    pub name: Option<Text>,
    pub section_name: Option<Text>,
    pub port: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HttpRule {
    pub name: Option<Text>,
    pub matches: Vec<Spanned<HttpMatch>>,
    pub filters: Vec<Spanned<Filter>>,
    pub backend_refs: Vec<Spanned<BackendRef>>,
    pub timeouts: Option<RuleTimeouts>,
    pub retry: Option<Retry>,
    pub session_persistence: Option<Spanned<IgnoredAny>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct GrpcRule {
    pub name: Option<Text>,
    pub matches: Vec<Spanned<GrpcMatch>>,
    pub filters: Vec<Spanned<Filter>>,
    pub backend_refs: Vec<Spanned<BackendRef>>,
    pub session_persistence: Option<Spanned<IgnoredAny>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TcpRule {
    pub name: Option<Text>,
    pub backend_refs: Vec<Spanned<BackendRef>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HttpMatch {
    pub path: Option<TypedText>,
    pub headers: Vec<Spanned<FieldMatch>>,
    pub query_params: Vec<Spanned<FieldMatch>>,
    pub method: Option<Text>,
}

/// `path` of an HTTPRoute's match.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypedText {
    #[serde(rename = "type")]
    pub sort: Option<Text>,
    pub value: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldMatch {
    #[serde(rename = "type")]
    pub sort: Option<Text>,
    pub name: Text,
    pub value: Text,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GrpcMatch {
    pub method: Option<Spanned<GrpcMethod>>,
    pub headers: Vec<Spanned<FieldMatch>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrpcMethod {
    #[serde(rename = "type")]
    pub sort: Option<Text>,
    pub service: Option<Text>,
    pub method: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Filter {
    #[serde(rename = "type")]
    pub sort: Text,
    pub request_header_modifier: Option<HeaderEdits>,
    pub response_header_modifier: Option<HeaderEdits>,
    pub request_mirror: Option<Mirror>,
    pub request_redirect: Option<Redirect>,
    pub url_rewrite: Option<Rewrite>,
    pub cors: Option<Cors>,
    pub external_auth: Option<IgnoredAny>,
    pub extension_ref: Option<ExtensionRef>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HeaderEdits {
    pub set: Vec<Spanned<Field>>,
    pub add: Vec<Spanned<Field>>,
    pub remove: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    pub name: Text,
    pub value: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Mirror {
    pub backend_ref: Spanned<ObjectRef>,
    pub percent: Option<Text>,
    pub fraction: Option<Fraction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fraction {
    pub numerator: Text,
    pub denominator: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Redirect {
    pub scheme: Option<Text>,
    pub hostname: Option<Text>,
    pub path: Option<Spanned<PathEdit>>,
    pub port: Option<Text>,
    pub status_code: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rewrite {
    pub hostname: Option<Text>,
    pub path: Option<Spanned<PathEdit>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PathEdit {
    #[serde(rename = "type")]
    pub sort: Text,
    pub replace_full_path: Option<Text>,
    pub replace_prefix_match: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Cors {
    pub allow_origins: Vec<Text>,
    pub allow_credentials: Option<Text>,
    pub allow_methods: Vec<Text>,
    pub allow_headers: Vec<Text>,
    pub expose_headers: Vec<Text>,
    pub max_age: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtensionRef {
    pub group: Text,
    pub kind: Text,
    pub name: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendRef {
    pub group: Option<Text>,
    pub kind: Option<Text>,
    pub namespace: Option<Text>,
    pub name: Text,
    pub port: Option<Text>,
    pub weight: Option<Text>,
    #[serde(default)]
    pub filters: Vec<Spanned<Filter>>,
}

/// `backendRef` of a mirror.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectRef {
    pub group: Option<Text>,
    pub kind: Option<Text>,
    pub namespace: Option<Text>,
    pub name: Text,
    pub port: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RuleTimeouts {
    pub request: Option<Text>,
    pub backend_request: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Retry {
    pub codes: Vec<Text>,
    pub attempts: Option<Text>,
    pub backoff: Option<Text>,
}

/// A fixed answer: no server is needed. Filters of routes name it (ExtensionRef).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DirectResponse {
    /// From 200 to 599.
    #[schemars(with = "Option<schema::Count>")]
    pub status: Option<Text>,
    /// Its headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Text>,
    /// Its body.
    pub body: Option<Text>,
}
