//! Names of objects and labels.

/// Why a text is not a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NameError {
    #[error(
        "write a name of up to 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
    )]
    Name,
    #[error("write up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends")]
    Label,
}

/// Reads an object's name: a DNS subdomain (RFC 1123), as Kubernetes has it.
pub(crate) fn parse(text: &str) -> Result<String, NameError> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| is_word(part, |byte| good(byte) || byte == b'-');
    if text.len() > 253 || !text.split('.').all(part) {
        return Err(NameError::Name);
    }
    Ok(text.to_owned())
}

/// Reads a label's value, as Kubernetes has it, though not an empty one.
pub(crate) fn parse_label(text: &str) -> Result<String, NameError> {
    if text.len() > 63 || !is_word(text, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(NameError::Label);
    }
    Ok(text.to_owned())
}

/// True for allowed bytes with a letter or digit at both ends.
pub(super) fn is_word(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(ends) && text.ends_with(ends) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names() {
        for good in ["a", "reviews-v1", "reviews.example.com", "0"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        let long = "a".repeat(254);
        for bad in ["", "A", "-a", "a-", "a..b", ".a", "a_b", "a/b", "é", "a\n", &long] {
            assert_eq!(parse(bad), Err(NameError::Name), "{bad}");
        }
    }

    #[test]
    fn reads_labels() {
        for good in ["a", "eu-west-1a", "Zone_1.x"] {
            assert_eq!(parse_label(good).as_deref(), Ok(good));
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a b", &long] {
            assert_eq!(parse_label(bad), Err(NameError::Label), "{bad}");
        }
    }
}
