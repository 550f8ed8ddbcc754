//! The kind `AccessPolicy` as it is written: shape only (see `config::raw`).

use std::collections::BTreeMap;

use crate::config::shape::Spanned;
use serde::Deserialize;

use super::super::raw::Text;
use super::super::target_ref::RawTargetRef;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct AccessPolicy {
    pub target_refs: Vec<Spanned<RawTargetRef>>,
    pub jwt: Vec<Spanned<JwtRule>>,
    pub tokens: Vec<StaticToken>,
    pub external_authorization: Option<ExternalAuthorization>,
    pub rules: Vec<Spanned<Rule>>,
    pub path_normalization: PathNormalization,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct JwtRule {
    pub issuer: Text,
    #[serde(default)]
    pub audiences: Vec<Text>,
    pub jwks: Spanned<Jwks>,
    pub clock_skew: Option<Text>,
    #[serde(default)]
    pub claim_to_headers: Vec<ClaimToHeader>,
    #[serde(default)]
    pub from_headers: Vec<FromHeader>,
    pub forward: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Jwks {
    pub file: Option<Text>,
    pub uri: Option<Text>,
    pub ca_certificates: Option<Text>,
    pub inline: Option<Text>,
    pub refresh: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClaimToHeader {
    pub claim: Text,
    pub header: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FromHeader {
    pub name: Text,
    pub prefix: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StaticToken {
    pub name: Text,
    pub sha256: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ExternalAuthorization {
    pub http: HttpAuthorization,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct HttpAuthorization {
    pub url: Text,
    pub ca_certificates: Option<Text>,
    pub headers: Option<Vec<Text>>,
    #[serde(default)]
    pub allowed_upstream_headers: Vec<Text>,
    pub timeout: Option<Text>,
    pub fail_open: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rule {
    pub action: Text,
    #[serde(default)]
    pub from: From,
    #[serde(default)]
    pub to: To,
    #[serde(default)]
    pub when: When,
    pub unauthenticated: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct From {
    pub sources: Option<Vec<Text>>,
    pub principals: Option<Vec<Text>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct To {
    pub methods: Option<Vec<Text>>,
    pub paths: Option<Vec<Text>>,
    pub hosts: Option<Vec<Text>>,
    pub ports: Option<Vec<Text>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct When {
    pub claims: BTreeMap<String, Vec<Text>>,
    pub headers: BTreeMap<String, Vec<Text>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct PathNormalization {
    pub allow_encoded_slashes: Option<Text>,
}
