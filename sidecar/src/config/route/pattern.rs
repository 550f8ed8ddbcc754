//! Regular expressions.

use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

/// A regular expression that must match the whole of a text. Equal if written alike.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    whole: Regex,
}

/// Why a text is not a regular expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum PatternError {
    #[error("write a regular expression (RE2's syntax: no look-around, no back-references)")]
    Malformed,
    #[error("is too large a regular expression; write a shorter one, or with smaller repetitions")]
    TooLarge,
    #[error("write a regular expression of 1 to {MAX_BYTES} bytes")]
    Length,
}

const MAX_BYTES: usize = 4096;
/// What an expression may take when compiled, and its cache while it matches.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

impl Pattern {
    pub(in crate::config) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(PatternError::Length);
        }
        // By itself first: `a)|(b` would be well-formed between the parentheses below.
        compile(text)?;
        // The line break ends a comment, which the mode `x` allows.
        let extended = compile(&format!(r"\A(?:{text})\z"));
        let whole = extended.or_else(|_| compile(&format!("\\A(?:{text}\n)\\z")))?;
        Ok(Self { text: text.to_owned(), whole })
    }

    /// True if it matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn compile(text: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(text).size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_COMPILED_BYTES).build().map_err(
        |error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            _ => PatternError::Malformed,
        },
    )
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_whole() {
        let matches = |pattern, text| Pattern::parse(pattern).unwrap().matches(text);
        assert!(matches("/a|/b", "/a") && matches("/a|/b", "/b"));
        assert!(!matches("/a|/b", "/ab") && !matches("/a|/b", "/a\n"));
        assert!(matches("/v[0-9]+/.*", "/v12/x") && !matches("/v[0-9]+", "/v1/x"));
        assert!(!matches("(?m)^a$", "a\nb"));
        assert!(matches("(?x) a # letter", "a") && !matches("(?x) a # letter", "ab"));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Pattern::parse("a)|(b"), Err(PatternError::Malformed));
        assert_eq!(Pattern::parse("("), Err(PatternError::Malformed));
        assert_eq!(Pattern::parse(r"(a)\1"), Err(PatternError::Malformed));
        assert_eq!(Pattern::parse(r"(\w{1000}){1000}"), Err(PatternError::TooLarge));
        assert_eq!(Pattern::parse(""), Err(PatternError::Length));
        assert_eq!(Pattern::parse(&"a".repeat(4097)), Err(PatternError::Length));
    }
}
