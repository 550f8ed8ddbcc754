//! `spec.headers` of a `ProxyConfig`.

use hyper::http::uri::Authority;

use super::check::Check;
use super::model::Headers;
use super::raw;
use super::value::choice;

/// How long the proxy's name may be, in bytes.
const MAX_NAME: usize = 256;

/// Why a text is not the proxy's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write a name for the proxy, such as edge or edge.example.com:8080, or off")]
struct ViaError;

/// Reads the section.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::Headers) -> Headers {
    let default = Headers::default();
    let at = |leaf: &str| format!("spec.headers.{leaf}");
    Headers {
        via: check.value_or(&at("via"), raw.via.as_ref(), default.via, via),
        forwarded: check.value_or(&at("forwarded"), raw.forwarded.as_ref(), default.forwarded, choice::parse),
        captured: check.value_or(
            &at("captured"),
            raw.captured.as_ref(),
            default.captured,
            choice::parse_bool,
        ),
    }
}

/// A pseudonym, or a host and perhaps its port (RFC 9110 section 7.6.3). `None`: `off`.
fn via(text: &str) -> Result<Option<String>, ViaError> {
    if text == "off" {
        return Ok(None);
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let named = !text.is_empty() && text.bytes().all(token);
    let host = || text.parse::<Authority>().is_ok_and(|host| !host.host().is_empty() && !text.contains('@'));
    let listed = text.contains([',', ';', '(', ')']);
    if text.len() <= MAX_NAME && !listed && (named || host()) {
        Ok(Some(text.to_owned()))
    } else {
        Err(ViaError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_or_a_host() {
        for good in ["edge-1", "edge.example.com:8080", "[::1]:80", "on", "true"] {
            assert_eq!(via(good), Ok(Some(good.to_owned())));
        }
        for bad in ["", "two words", "a,b", "a(b)", "user@host", "a\tb", "caf\u{e9}", &"a".repeat(257)] {
            assert_eq!(via(bad), Err(ViaError), "{bad}");
        }
        assert_eq!(via("off"), Ok(None));
    }
}
