//! URLs that the proxy asks on its own.

use hyper::Uri;

use super::super::value::address::{self, AddressError};

/// Why a text is not such a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum UrlError {
    #[error(transparent)]
    Url(#[from] AddressError),
    #[error("https is not supported here; write an http URL")]
    Https,
    #[error("has a user or password; leave them out")]
    Userinfo,
}

/// Reads an `http` URL.
pub(super) fn parse(text: &str) -> Result<Uri, UrlError> {
    let url = address::parse_url(text)?;
    if url.scheme_str() == Some("https") {
        return Err(UrlError::Https);
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(UrlError::Userinfo);
    }
    Ok(url)
}
