//! The kind `AccessPolicy`. Files that it names are not read here.

mod external;
mod jwt;
mod model;
mod pattern;
pub(super) mod raw;
mod rules;
mod tokens;
mod url;

#[cfg(test)]
mod tests;

pub use model::{
    AccessPolicy, Action, ClaimToHeader, ExternalAuthorization, From, FromHeader, HttpAuthorization, Jwks,
    JwtRule, PathNormalization, Rule, StaticToken, To, When,
};
pub use pattern::Pattern;

pub(super) use raw::AccessPolicy as Raw;

use super::check::Check;
use super::target_ref::{self, ObjectName};
use super::value::choice;

/// How many values one list may have.
const MAX_VALUES: usize = 256;
/// How long one word may be, in bytes.
const MAX_WORD_BYTES: usize = 1024;

/// A text that is no word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write 1 to {MAX_WORD_BYTES} bytes without control characters")]
struct WordError;

/// The policy called `name` (on this line), unless it is wrong.
pub(super) fn read(
    check: &mut Check<'_>,
    raw: &raw::AccessPolicy,
    name: ObjectName,
    line: u64,
) -> AccessPolicy {
    let targets = target_ref::read(check, &raw.target_refs, &name.namespace, line);
    let allow_encoded_slashes = check.value_or(
        "spec.pathNormalization.allowEncodedSlashes",
        raw.path_normalization.allow_encoded_slashes.as_ref(),
        false,
        choice::parse_bool,
    );
    AccessPolicy {
        name,
        targets,
        jwt: jwt::read(check, &raw.jwt),
        tokens: tokens::read(check, &raw.tokens),
        external_authorization: raw
            .external_authorization
            .as_ref()
            .and_then(|raw| external::read(check, raw)),
        rules: rules::read(check, &raw.rules),
        path_normalization: PathNormalization { allow_encoded_slashes },
    }
}

/// The list, unless it is too long, which is noted.
fn within<'a, T>(
    check: &mut Check<'_>,
    field: &str,
    list: &'a [T],
    max: usize,
    line: impl Fn(&T) -> u64,
) -> &'a [T] {
    let Some(more) = list.get(max) else { return list };
    check.refuse(line(more), field, format_args!("{} are more than {max}; leave some out", list.len()));
    &[]
}

/// Reads a text that is compared as it stands.
fn word(text: &str) -> Result<String, WordError> {
    let good = (1..=MAX_WORD_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if good { Ok(text.to_owned()) } else { Err(WordError) }
}
