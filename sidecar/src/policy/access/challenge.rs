//! `WWW-Authenticate` (RFC 6750, section 3).

use hyper::header::HeaderValue;

/// For a request without a token: no error, since none was made.
pub(super) fn missing() -> HeaderValue {
    HeaderValue::from_static(r#"Bearer realm="sidecar""#)
}

/// For a token that is not good. `why` has no quotation marks or backslashes.
pub(super) fn invalid_token(why: &str) -> HeaderValue {
    let text = format!(r#"Bearer realm="sidecar", error="invalid_token", error_description="{why}""#);
    HeaderValue::from_str(&text)
        .unwrap_or(HeaderValue::from_static(r#"Bearer realm="sidecar", error="invalid_token""#))
}

/// For a token that is good, but not for this.
pub(super) fn insufficient_scope() -> HeaderValue {
    HeaderValue::from_static(r#"Bearer realm="sidecar", error="insufficient_scope""#)
}
