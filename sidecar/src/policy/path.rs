//! One form for all spellings of a path (RFC 3986, section 6.2.2), so that what is authorised is what is forwarded.

use std::borrow::Cow;
use std::fmt::Write;

/// Why a path is not accepted. Servers disagree about what such paths mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It is neither absolute nor `*`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a percent sign without two hexadecimal digits")]
    BadEscape,
    /// A control character (NUL among them) or space as such, or NUL as an escape.
    #[error("the path has a control character or a space")]
    Control,
    /// A `?` or `#`: what follows is no path.
    #[error("the path has a question mark or hash sign")]
    Query,
    /// `%2F`, `%5C` or a backslash, which some servers take for a slash.
    #[error("the path has an encoded slash or a backslash")]
    EncodedSlash,
    /// A dot segment that only some servers see: `..;x`, or one between encoded slashes.
    #[error("the path has a disguised dot segment")]
    HiddenDots,
}

/// The path in its one form: unreserved characters are decoded, other escapes in upper case, what a URI may not hold is
/// escaped, slashes are single, dot segments are removed. `path` has no query. Idempotent.
///
/// Encoded slashes and backslashes are refused, or stay escapes if they are allowed.
pub fn normalise(path: &str, allow_encoded_slashes: bool) -> Result<Cow<'_, str>, Refused> {
    // OPTIONS of the server itself (RFC 9112, section 3.2.4).
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(Refused::NotAbsolute);
    }
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let escaped = normalise_escapes(path, allow_encoded_slashes)?;
    let normal = remove_dot_segments(&escaped)?;
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// True for most paths, which need no work: nothing is escaped, doubled, or begins a segment with a dot.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    let plain = bytes.iter().all(|&byte| byte == b'/' || is_segment_char(byte));
    plain && !bytes.windows(2).any(|pair| pair == b"//" || pair == b"/.")
}

/// `unreserved` of RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `pchar` of RFC 3986, section 3.3, without escapes.
fn is_segment_char(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

fn normalise_escapes(path: &str, allow_encoded_slashes: bool) -> Result<String, Refused> {
    let mut normal = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let escaped = byte == b'%';
        let byte = if escaped { unescape(bytes.next(), bytes.next())? } else { byte };
        match byte {
            0 => return Err(Refused::Control),
            b'/' if !escaped => normal.push('/'),
            b'/' | b'\\' if !allow_encoded_slashes => return Err(Refused::EncodedSlash),
            byte if is_unreserved(byte) || (!escaped && is_segment_char(byte)) => {
                normal.push(char::from(byte));
            }
            b'?' | b'#' if !escaped => return Err(Refused::Query),
            byte if !escaped && (byte <= b' ' || byte == 0x7f) => return Err(Refused::Control),
            // Writing to a string cannot fail.
            byte => drop(write!(normal, "%{byte:02X}")),
        }
    }
    Ok(normal)
}

fn unescape(high: Option<u8>, low: Option<u8>) -> Result<u8, Refused> {
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    let (high, low) = digit(high).zip(digit(low)).ok_or(Refused::BadEscape)?;
    u8::try_from(high << 4 | low).map_err(|_| Refused::BadEscape)
}

/// RFC 3986, section 5.2.4, and slashes become single.
fn remove_dot_segments(path: &str) -> Result<String, Refused> {
    let mut kept: Vec<&str> = Vec::new();
    // What ends in a slash, or in a segment that is removed, names a directory.
    let mut directory = true;
    for segment in path.split('/') {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment if hides_dots(segment) => return Err(Refused::HiddenDots),
            segment => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if directory || kept.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

/// True if a server that cuts off parameters, or decodes slashes, sees a dot segment here.
fn hides_dots(segment: &str) -> bool {
    let mut parts = segment.split("%2F").flat_map(|part| part.split("%5C"));
    parts.any(|part| matches!(part.split_once(';').map_or(part, |(name, _)| name), "." | ".."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strict(path: &str) -> Result<String, Refused> {
        normalise(path, false).map(Cow::into_owned)
    }

    #[test]
    fn spellings_of_one_path_become_one() {
        let spellings = [
            "/admin",
            "//admin",
            "/./admin",
            "/api/../admin",
            "/api/%2e%2e/admin",
            "/api/%2E./admin",
            "/api/.%2e//admin",
            "/../../admin",
            "/%61dmin",
            "/a%64min",
            "/api//../admin",
            "/x/y/../../admin",
        ];
        for path in spellings {
            assert_eq!(strict(path).as_deref(), Ok("/admin"), "{path}");
        }
        assert_eq!(strict("/a/..").as_deref(), Ok("/"));
        assert_eq!(strict("/a/b/..").as_deref(), Ok("/a/"));
        assert_eq!(strict("/a/.").as_deref(), Ok("/a/"));
        assert_eq!(strict("/a//").as_deref(), Ok("/a/"));
        assert_eq!(strict("/..a/...").as_deref(), Ok("/..a/..."));
        assert_eq!(strict("/caf%c3%a9").as_deref(), Ok("/caf%C3%A9"));
        assert_eq!(strict("/café|").as_deref(), Ok("/caf%C3%A9%7C"));
        assert_eq!(strict("/a%3bb;c").as_deref(), Ok("/a%3Bb;c"));
        assert_eq!(strict("*").as_deref(), Ok("*"));
        // Decoded once: what a second decoding would make of it is not in the path.
        assert_eq!(strict("/%252e%252e/admin").as_deref(), Ok("/%252e%252e/admin"));
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        for path in ["/", "/a/b.c/d;e=f", "/a/", "/%2A", "/a/...x"] {
            assert!(matches!(normalise(path, false), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn what_servers_disagree_about_is_refused() {
        let cases = [
            ("/admin%2f", Refused::EncodedSlash),
            ("/a%2F..%2fadmin", Refused::EncodedSlash),
            ("/a%5cb", Refused::EncodedSlash),
            ("/a\\b", Refused::EncodedSlash),
            ("/a%00", Refused::Control),
            ("/a\0", Refused::Control),
            ("/a b", Refused::Control),
            ("/a\u{7f}", Refused::Control),
            ("/a%", Refused::BadEscape),
            ("/a%2", Refused::BadEscape),
            ("/a%g0", Refused::BadEscape),
            ("/a%+1", Refused::BadEscape),
            ("/a%é", Refused::BadEscape),
            ("/a?b", Refused::Query),
            ("/a#b", Refused::Query),
            ("/api/..;/admin", Refused::HiddenDots),
            ("/api/%2e%2e;x=y/admin", Refused::HiddenDots),
            ("", Refused::NotAbsolute),
            ("admin", Refused::NotAbsolute),
            ("http://a/admin", Refused::NotAbsolute),
        ];
        for (path, why) in cases {
            assert_eq!(strict(path), Err(why), "{path:?}");
        }
    }

    #[test]
    fn encoded_slashes_stay_escapes_if_allowed() {
        let lenient = |path| normalise(path, true).map(Cow::into_owned);
        assert_eq!(lenient("/a%2fb").as_deref(), Ok("/a%2Fb"));
        assert_eq!(lenient("/a\\b%5c").as_deref(), Ok("/a%5Cb%5C"));
        for path in ["/a/..%2fadmin", "/a%2f..%2fadmin", "/a%2f%2e%2e", "/..\\admin", "/a%2f.;x"] {
            assert_eq!(lenient(path), Err(Refused::HiddenDots), "{path}");
        }
    }

    proptest! {
        #[test]
        fn it_is_idempotent_and_has_no_dots(
            path in "/([a-c./\\\\;]|%2e|%2F|%5c|%41|%25|%c3|é|\\|){0,24}|/.*",
            allow: bool,
        ) {
            if let Ok(once) = normalise(&path, allow) {
                prop_assert_eq!(normalise(&once, allow), Ok(Cow::Borrowed(once.as_ref())));
                let dots = once.split('/').any(|segment| segment == "." || segment == "..");
                prop_assert!(once.starts_with('/') && !once.contains("//") && !dots, "{}", once);
                prop_assert!(once.is_ascii() && once.parse::<hyper::Uri>().is_ok(), "{}", once);
                prop_assert!(allow || !(once.contains("%2F") || once.contains("%5C")), "{}", once);
            }
        }
    }
}
