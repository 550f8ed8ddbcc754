//! `spec.tokens` of an `AccessPolicy`.

use super::super::check::Check;
use super::super::value::name;
use super::model::StaticToken;
use super::{raw, within};

/// How many static tokens a policy may have. Each request's is compared with all.
const MAX_TOKENS: usize = 256;

/// A text that is not a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write the token's SHA-256 as 64 hexadecimal digits, as printf %s TOKEN | sha256sum shows it")]
struct HashError;

pub(super) fn read(check: &mut Check<'_>, raw: &[raw::StaticToken]) -> Vec<StaticToken> {
    const FIELD: &str = "spec.tokens";
    let raw = within(check, FIELD, raw, MAX_TOKENS, |raw| raw.name.line);
    let mut tokens: Vec<StaticToken> = Vec::new();
    for (i, raw) in raw.iter().enumerate() {
        let name = check.value(&format!("{FIELD}[{i}].name"), &raw.name, name::parse);
        let sha256 = check.value(&format!("{FIELD}[{i}].sha256"), &raw.sha256, hash);
        let (Some(name), Some(sha256)) = (name, sha256) else { continue };
        if tokens.iter().any(|other| other.name == name) {
            check.refuse_value(
                &format!("{FIELD}[{i}].name"),
                &raw.name,
                "is the name of a token above; rename one",
            );
        } else if tokens.iter().any(|other| other.sha256 == sha256) {
            let why = "is the hash of a token above; leave one out";
            check.refuse_value(&format!("{FIELD}[{i}].sha256"), &raw.sha256, why);
        } else {
            tokens.push(StaticToken { name, sha256 });
        }
    }
    tokens
}

fn hash(text: &str) -> Result<[u8; 32], HashError> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or(HashError)?;
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if digits.len() == 64 { bytes.try_into().map_err(|_| HashError) } else { Err(HashError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hashes() {
        let mut expected = [0; 32];
        expected[31] = 0xaf;
        assert_eq!(hash(&format!("{}aF", "0".repeat(62))), Ok(expected));
        for bad in ["", "aF", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"+".repeat(64)] {
            assert_eq!(hash(bad), Err(HashError), "{bad}");
        }
    }
}
