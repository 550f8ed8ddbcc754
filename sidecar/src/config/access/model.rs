//! The validated kind `AccessPolicy`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use hyper::Uri;
use hyper::header::HeaderName;
use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::super::model::display;
use super::super::target_ref::{ObjectName, TargetRef};
use super::super::tls::Trust;
use super::super::value::duration;
use super::pattern::Pattern;

/// Who may do what on the targets. Policies of one target are put together: any of them may identify, each DENY refuses,
/// and with at least one ALLOW among them one must match.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicy {
    /// Its name, distinct.
    pub name: ObjectName,
    /// What it protects; at least one.
    pub targets: Vec<TargetRef>,
    /// Whose JSON Web Tokens identify (RFC 7519).
    pub jwt: Vec<JwtRule>,
    /// Bearer tokens that identify callers without an issuer; names and hashes are distinct.
    pub tokens: Vec<StaticToken>,
    /// A service that has the last word.
    pub external_authorization: Option<ExternalAuthorization>,
    /// What is allowed and denied.
    pub rules: Vec<Rule>,
    /// How paths are brought to one form before rules see them and the upstream does.
    pub path_normalization: PathNormalization,
}

/// An issuer whose tokens are accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtRule {
    /// The claim `iss`, compared byte by byte.
    pub issuer: String,
    /// One of them must be in the claim `aud`; empty: any token of the issuer will do.
    pub audiences: Vec<String>,
    /// The issuer's keys.
    pub jwks: Jwks,
    /// How far the issuer's clock may be off.
    #[serde(serialize_with = "duration::serialize")]
    pub clock_skew: Duration,
    /// Claims that the upstream sees as headers. Such headers of a client are always removed.
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Where the token is looked for; never empty.
    pub from_headers: Vec<FromHeader>,
    /// Whether the upstream gets the token.
    pub forward: bool,
}

/// Where a key set is (RFC 7517, section 5).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Jwks {
    /// A file. It is not read at validation: it may come later, or not be there where one validates.
    File {
        /// Its path.
        path: PathBuf,
        /// How often it is read again, beside when it changes.
        #[serde(serialize_with = "duration::serialize")]
        refresh: Duration,
    },
    /// An `http` or `https` URL.
    Uri {
        /// The URL.
        #[serde(serialize_with = "display")]
        uri: Uri,
        /// Who may answer an `https` URL.
        #[serde(rename = "caCertificates", skip_serializing_if = "Option::is_none")]
        trust: Option<Trust>,
        /// How often it is fetched again.
        #[serde(serialize_with = "duration::serialize")]
        refresh: Duration,
    },
    /// The key set itself, with at least one key that can be used.
    Inline(String),
}

/// A claim that the upstream sees as a header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// The claim's name; dots lead into objects.
    pub claim: String,
    /// The header's name.
    #[serde(serialize_with = "display")]
    pub header: HeaderName,
}

/// A header that may carry a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FromHeader {
    /// The header's name.
    #[serde(serialize_with = "display")]
    pub name: HeaderName,
    /// What stands before the token, in any case; may be empty.
    pub prefix: String,
}

/// A bearer token without an issuer (RFC 6750).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticToken {
    /// The caller's name.
    pub name: String,
    /// The token's hash. Left out of dumps: a short token could be found by it.
    #[serde(skip)]
    pub sha256: [u8; 32],
}

/// A service that is asked about each request that the rules allow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAuthorization {
    /// How it is asked.
    pub http: HttpAuthorization,
}

/// An authorizer that speaks HTTP: 2xx allows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAuthorization {
    /// An `http` or `https` URL.
    #[serde(serialize_with = "display")]
    pub url: Uri,
    /// Who may answer an `https` URL.
    #[serde(rename = "caCertificates", skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// Headers of the request that it sees; by default `authorization`.
    #[serde(serialize_with = "names")]
    pub headers: Vec<HeaderName>,
    /// Headers of its answer that the upstream sees.
    #[serde(serialize_with = "names")]
    pub allowed_upstream_headers: Vec<HeaderName>,
    /// How long it may take, not zero.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// Whether requests pass when it does not answer.
    pub fail_open: bool,
}

/// What is allowed or denied: requests for which all that is written here holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What becomes of them.
    pub action: Action,
    /// Who asks.
    pub from: From,
    /// What for.
    pub to: To,
    /// And what else must hold.
    pub when: When,
    /// Of ALLOW: holds for callers without an identity too. Without it, a policy with `jwt` or `tokens` wants one.
    pub unauthenticated: bool,
}

/// What becomes of requests that a rule matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
#[value(rename_all = "UPPER")]
pub enum Action {
    /// They pass, unless denied.
    Allow,
    /// They are refused, whatever else allows them.
    Deny,
}

/// Who asks. An empty list is anyone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct From {
    /// Networks of the client.
    pub sources: Vec<IpNet>,
    /// Identities: `ISSUER/SUBJECT` for a JWT, `tokens/NAME` for a static token.
    pub principals: Vec<Pattern>,
}

/// What for. An empty list is anything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct To {
    /// Methods; they are case-sensitive (RFC 9110, section 9.1).
    pub methods: Vec<String>,
    /// Paths after normalisation, without the query.
    pub paths: Vec<Pattern>,
    /// Hosts without port, in lower case.
    pub hosts: Vec<Pattern>,
    /// Ports of this workload.
    pub ports: Vec<u16>,
}

/// What else must hold: every name has one of its values.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct When {
    /// Claims, whose dots lead into objects; of a list, any item.
    pub claims: BTreeMap<String, Vec<String>>,
    /// Request headers, by names in lower case.
    pub headers: BTreeMap<String, Vec<Pattern>>,
}

/// How paths are brought to one form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathNormalization {
    /// Let `%2F`, `%5C` and backslashes pass, as escapes, instead of refusing the request. Rules do not take them for
    /// slashes; an upstream that does would see another path than was authorised.
    pub allow_encoded_slashes: bool,
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}
