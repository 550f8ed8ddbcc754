//! The kind `AccessPolicy` as it is written: shape only (see `config::raw`).

use std::collections::BTreeMap;

use crate::config::shape::Spanned;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::raw::Text;
use super::super::schema;
use super::super::target_ref::RawTargetRef;
use super::model::Action;

/// Who may do what. Rules that deny come before rules that allow; with at least one of the latter, what matches none is refused.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct AccessPolicy {
    /// What it protects; at least one.
    pub target_refs: Vec<Spanned<RawTargetRef>>,
    /// Whose JSON Web Tokens identify callers (RFC 7519).
    pub jwt: Vec<Spanned<JwtRule>>,
    /// Bearer tokens that identify callers without an issuer.
    pub tokens: Vec<StaticToken>,
    /// A service that has the last word.
    pub external_authorization: Option<ExternalAuthorization>,
    /// What is allowed and denied.
    pub rules: Vec<Spanned<Rule>>,
    /// How paths are brought to one form before rules see them and the upstream does.
    pub path_normalization: PathNormalization,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct JwtRule {
    /// The claim iss, compared byte by byte.
    pub issuer: Text,
    /// One of them must be in the claim aud; empty: any token of the issuer will do.
    #[serde(default)]
    pub audiences: Vec<Text>,
    /// The issuer's keys: one of file, uri and inline.
    pub jwks: Spanned<Jwks>,
    /// How far the issuer's clock may be off.
    #[schemars(with = "Option<schema::Duration>")]
    pub clock_skew: Option<Text>,
    /// Claims that the upstream sees as headers. Such headers of a client are always removed.
    #[serde(default)]
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Where the token is looked for. Default: Authorization, after Bearer.
    #[serde(default)]
    pub from_headers: Vec<FromHeader>,
    /// Whether the upstream gets the token. Default: true.
    #[schemars(with = "Option<schema::Boolean>")]
    pub forward: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Jwks {
    /// A file.
    pub file: Option<Text>,
    /// An http or https URL.
    pub uri: Option<Text>,
    /// A file with the authorities to believe of an https URL.
    pub ca_certificates: Option<Text>,
    /// The key set itself.
    pub inline: Option<Text>,
    /// How often it is read again.
    #[schemars(with = "Option<schema::Duration>")]
    pub refresh: Option<Text>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClaimToHeader {
    /// The claim's name; dots lead into objects.
    pub claim: Text,
    /// The header's name.
    pub header: Text,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FromHeader {
    /// The header's name.
    pub name: Text,
    /// What stands before the token.
    pub prefix: Option<Text>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StaticToken {
    /// The caller's name.
    pub name: Text,
    /// The token's SHA-256, in hexadecimal digits.
    pub sha256: Text,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ExternalAuthorization {
    /// How it is asked.
    pub http: HttpAuthorization,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct HttpAuthorization {
    /// An http or https URL; an answer 2xx allows.
    pub url: Text,
    /// A file with the authorities to believe of an https URL.
    pub ca_certificates: Option<Text>,
    /// Headers of the request that it sees. Default: authorization.
    pub headers: Option<Vec<Text>>,
    /// Headers of its answer that the upstream sees.
    #[serde(default)]
    pub allowed_upstream_headers: Vec<Text>,
    /// How long it may take.
    #[schemars(with = "Option<schema::Duration>")]
    pub timeout: Option<Text>,
    /// Whether requests pass when it does not answer. Default: false.
    #[schemars(with = "Option<schema::Boolean>")]
    pub fail_open: Option<Text>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rule {
    /// What becomes of requests for which all that is written here holds.
    #[schemars(with = "schema::Choice<Action>")]
    pub action: Text,
    /// Who asks.
    #[serde(default)]
    pub from: From,
    /// What for.
    #[serde(default)]
    pub to: To,
    /// And what else must hold.
    #[serde(default)]
    pub when: When,
    /// Of ALLOW: holds for callers without an identity too. Default: false.
    #[schemars(with = "Option<schema::Boolean>")]
    pub unauthenticated: Option<Text>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct From {
    /// Networks of the client.
    pub sources: Option<Vec<Text>>,
    /// Identities: ISSUER/SUBJECT of a token, tokens/NAME for a static token.
    pub principals: Option<Vec<Text>>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct To {
    /// Methods, case-sensitive.
    pub methods: Option<Vec<Text>>,
    /// Paths after normalisation, without the query. A * at one end stands for anything.
    pub paths: Option<Vec<Text>>,
    /// Hosts without port.
    pub hosts: Option<Vec<Text>>,
    /// Ports of this workload.
    #[schemars(with = "Option<Vec<schema::Port>>")]
    pub ports: Option<Vec<Text>>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct When {
    /// Claims of the token, each with the values that will do.
    pub claims: BTreeMap<String, Vec<Text>>,
    /// Headers, each with the values that will do.
    pub headers: BTreeMap<String, Vec<Text>>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct PathNormalization {
    /// Paths with %2F and %5C pass as they are. Default: false, they are refused.
    #[schemars(with = "Option<schema::Boolean>")]
    pub allow_encoded_slashes: Option<Text>,
}
