//! `spec.jwt` of an `AccessPolicy`.

use std::time::Duration;

use crate::config::shape::Spanned;
use hyper::header::{AUTHORIZATION, HeaderName};

use super::super::check::Check;
use super::super::value::{choice, duration, header, path};
use super::model::{ClaimToHeader, FromHeader, Jwks, JwtRule};
use super::{MAX_VALUES, raw, url, within, word};
use crate::policy::access::keys::KeySet;

/// How many issuers a policy may have.
const MAX_RULES: usize = 16;
/// How many headers one issuer's tokens may come in.
const MAX_FROM_HEADERS: usize = 8;
/// How many claims become headers.
const MAX_CLAIMS: usize = 32;
const CLOCK_SKEW: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// What stands before a bearer token (RFC 6750, section 2.1).
const BEARER: &str = "Bearer ";

pub(super) fn read(check: &mut Check<'_>, raw: &[Spanned<raw::JwtRule>]) -> Vec<JwtRule> {
    const FIELD: &str = "spec.jwt";
    let raw = within(check, FIELD, raw, MAX_RULES, |raw| raw.line);
    let one = |(i, raw): (usize, &Spanned<raw::JwtRule>)| rule(check, &format!("{FIELD}[{i}]"), &raw.value);
    raw.iter().enumerate().filter_map(one).collect()
}

fn rule(check: &mut Check<'_>, field: &str, raw: &raw::JwtRule) -> Option<JwtRule> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let audiences = within(check, &at("audiences"), &raw.audiences, MAX_VALUES, |text| text.line);
    let audiences = check.set(&at("audiences"), audiences, word);
    let clock_skew = check.value_or(&at("clockSkew"), raw.clock_skew.as_ref(), CLOCK_SKEW, duration::parse);
    let forward = check.value_or(&at("forward"), raw.forward.as_ref(), true, choice::parse_bool);
    let from_headers = from_headers(check, &at("fromHeaders"), &raw.from_headers);
    let claim_to_headers =
        claim_to_headers(check, &at("claimToHeaders"), &raw.claim_to_headers, &from_headers);
    let jwks = jwks(check, &at("jwks"), &raw.jwks.value, raw.jwks.line);
    let issuer = check.value(&at("issuer"), &raw.issuer, word)?;
    Some(JwtRule { issuer, audiences, jwks: jwks?, clock_skew, claim_to_headers, from_headers, forward })
}

fn jwks(check: &mut Check<'_>, field: &str, raw: &raw::Jwks, line: u64) -> Option<Jwks> {
    let at = |leaf: &str| format!("{field}.{leaf}");
    let refresh = check.value_or(&at("refresh"), raw.refresh.as_ref(), REFRESH, duration::parse_positive);
    if let Some(text) = raw.ca_certificates.as_ref().filter(|_| raw.uri.is_none()) {
        check.refuse_value(&at("caCertificates"), text, "is for an https URL; leave it out");
    }
    match (&raw.file, &raw.uri, &raw.inline) {
        (Some(text), None, None) => {
            check.value(&at("file"), text, path::parse).map(|path| Jwks::File { path, refresh })
        }
        (None, Some(text), None) => {
            let (uri, trust) = url::read(check, (field, "uri"), text, raw.ca_certificates.as_ref())?;
            Some(Jwks::Uri { uri, trust, refresh })
        }
        (None, None, Some(text)) => {
            if let Some(text) = &raw.refresh {
                check.refuse_value(&at("refresh"), text, "is for file and uri; leave it out");
            }
            let usable = |text: &str| KeySet::parse(text.as_bytes()).map(|_| text.to_owned());
            check.value(&at("inline"), text, usable).map(Jwks::Inline)
        }
        _ => {
            check.refuse(line, field, "write exactly one of file, uri and inline");
            None
        }
    }
}

fn claim_to_headers(
    check: &mut Check<'_>,
    field: &str,
    raw: &[raw::ClaimToHeader],
    tokens: &[FromHeader],
) -> Vec<ClaimToHeader> {
    let raw = within(check, field, raw, MAX_CLAIMS, |raw| raw.claim.line);
    let mut read: Vec<ClaimToHeader> = Vec::new();
    for (i, raw) in raw.iter().enumerate() {
        let claim = check.value(&format!("{field}[{i}].claim"), &raw.claim, word);
        let header = check.value(&format!("{field}[{i}].header"), &raw.header, header::parse_copied);
        let (Some(claim), Some(header)) = (claim, header) else { continue };
        let why = if tokens.iter().any(|from| from.name == header) {
            "carries the token itself; write another header"
        } else if read.iter().any(|other| other.header == header) {
            "is the header of a claim above; write another"
        } else {
            read.push(ClaimToHeader { claim, header });
            continue;
        };
        check.refuse_value(&format!("{field}[{i}].header"), &raw.header, why);
    }
    read
}

fn from_headers(check: &mut Check<'_>, field: &str, raw: &[raw::FromHeader]) -> Vec<FromHeader> {
    if raw.is_empty() {
        return vec![FromHeader { name: AUTHORIZATION, prefix: BEARER.to_owned() }];
    }
    let raw = within(check, field, raw, MAX_FROM_HEADERS, |raw| raw.name.line);
    let one = |(i, raw): (usize, &raw::FromHeader)| {
        let name: HeaderName = check.value(&format!("{field}[{i}].name"), &raw.name, header::parse_copied)?;
        let prefix = raw.prefix.as_ref().map_or(String::new(), |text| text.value.clone());
        Some(FromHeader { name, prefix })
    };
    raw.iter().enumerate().filter_map(one).collect()
}
