//! Static bearer tokens.

use subtle::ConstantTimeEq;

use crate::config::access::StaticToken;

/// The token with this hash. Takes as long whichever it is, and if there is none.
pub(super) fn find<'a>(tokens: &'a [StaticToken], sha256: &[u8; 32]) -> Option<&'a StaticToken> {
    let mut found = None;
    for token in tokens {
        if token.sha256.ct_eq(sha256).into() {
            found = Some(token);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_hash_counts() {
        let token = |name: &str, byte| StaticToken { name: name.to_owned(), sha256: [byte; 32] };
        let tokens = [token("a", 1), token("b", 2)];
        assert_eq!(find(&tokens, &[2; 32]).map(|token| token.name.as_str()), Some("b"));
        let mut near = [2; 32];
        near[31] = 3;
        assert_eq!(find(&tokens, &near), None);
        assert_eq!(find(&[], &[0; 32]), None);
    }
}
