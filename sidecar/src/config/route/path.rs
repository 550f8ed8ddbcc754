//! Paths of requests.

/// Why a text is not a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum PathError {
    #[error("write a path that begins with / and has up to {MAX_BYTES} bytes")]
    Start,
    #[error(
        "write a path without a query, and with characters other than letters, digits and -._~!$&'()*+,;=:@/ as %XX"
    )]
    Characters,
    #[error("write a path without //, /./, /../, # and %2F: it would match nothing")]
    Normal,
    #[error("write a path that begins with /, or nothing to drop the prefix")]
    Prefix,
}

const MAX_BYTES: usize = 1024;

/// Reads what a request's path is compared with: in the normal form, as the Gateway API demands.
pub(super) fn parse_match(text: &str) -> Result<String, PathError> {
    let parts = ["//", "/./", "/../", "%2f", "%2F", "#"];
    if parts.iter().any(|part| text.contains(part)) || text.ends_with("/.") || text.ends_with("/..") {
        return Err(PathError::Normal);
    }
    parse(text)
}

/// Reads a path.
pub(super) fn parse(text: &str) -> Result<String, PathError> {
    if !text.starts_with('/') || text.len() > MAX_BYTES {
        return Err(PathError::Start);
    }
    characters(text)
}

/// Reads what is put in place of a prefix.
pub(super) fn parse_prefix(text: &str) -> Result<String, PathError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    parse(text).map_err(|error| if error == PathError::Start { PathError::Prefix } else { error })
}

/// RFC 3986, section 3.3.
fn characters(text: &str) -> Result<String, PathError> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => {
                [bytes.next(), bytes.next()].iter().flatten().filter(|b| b.is_ascii_hexdigit()).count() == 2
            }
            byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte),
        };
        if !good {
            return Err(PathError::Characters);
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths() {
        for good in ["/", "/a", "/a/", "/a%20b/(c)", "/v1.0/~x"] {
            assert_eq!(parse_match(good).as_deref(), Ok(good));
        }
        for bad in ["", "a", &format!("/{}", "a".repeat(1024))] {
            assert_eq!(parse(bad), Err(PathError::Start), "{bad}");
        }
        for bad in ["/a b", "/é", "/a%2", "/a?b", "/%gg"] {
            assert_eq!(parse(bad), Err(PathError::Characters), "{bad}");
        }
        for bad in ["/a//b", "/./a", "/a/..", "/a/../b", "/a%2fb", "/a#b"] {
            assert_eq!(parse_match(bad), Err(PathError::Normal), "{bad}");
        }
        assert_eq!(parse_prefix(""), Ok(String::new()));
        assert_eq!(parse_prefix("a"), Err(PathError::Prefix));
    }
}
