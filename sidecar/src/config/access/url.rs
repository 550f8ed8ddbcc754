//! URLs that the proxy asks on its own.

use hyper::Uri;

use super::super::check::Check;
use super::super::raw::Text;
use super::super::tls::{self, Trust};
use super::super::value::address::{self, AddressError};

/// Why a text is not such a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum UrlError {
    #[error(transparent)]
    Url(#[from] AddressError),
    #[error("has a user or password; leave them out")]
    Userinfo,
}

/// Reads `url`, and `caCertificates` beside it, both of which stand in `field`: who may answer, if that is asked by https.
pub(super) fn read(
    check: &mut Check<'_>,
    (field, leaf): (&str, &str),
    text: &Text,
    ca_certificates: Option<&Text>,
) -> Option<(Uri, Option<Trust>)> {
    let url = check.value(&format!("{field}.{leaf}"), text, parse)?;
    let beside = format!("{field}.caCertificates");
    if url.scheme_str() == Some("https") {
        let trust = tls::trust(check, &beside, ca_certificates, text.line)?;
        return Some((url, Some(trust)));
    }
    if let Some(text) = ca_certificates {
        check.refuse_value(&beside, text, "is for an https URL; leave it out");
    }
    Some((url, None))
}

fn parse(text: &str) -> Result<Uri, UrlError> {
    let url = address::parse_url(text)?;
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(UrlError::Userinfo);
    }
    Ok(url)
}
