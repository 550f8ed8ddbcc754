//! Looking into claims.

use std::borrow::Cow;

use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::config::access::ClaimToHeader;

/// The claim of this name; where there is none, dots lead into objects.
pub(super) fn find<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(claim) = claims.get(path) {
        return Some(claim);
    }
    path.match_indices('.').find_map(|(dot, _)| find(claims.get(&path[..dot])?, &path[dot + 1..]))
}

/// True if the claim, or one of its items, is one of the values.
pub(super) fn has(claims: &Value, path: &str, values: &[String]) -> bool {
    let wanted = |value: &Value| text(value).is_some_and(|text| values.iter().any(|value| *value == text));
    match find(claims, path) {
        Some(Value::Array(items)) => items.iter().any(wanted),
        // Words with spaces between (RFC 8693, section 4.2).
        Some(Value::String(words)) if path == "scope" => {
            words.split(' ').chain([words.as_str()]).any(|word| values.iter().any(|value| value == word))
        }
        Some(value) => wanted(value),
        None => false,
    }
}

/// The headers that the upstream sees. Lists are joined with commas. Left out are claims that are not there or are objects,
/// and those whose text would read otherwise in a header: with control characters, or items with a comma.
pub(super) fn headers(claims: &Value, rules: &[ClaimToHeader]) -> Vec<(HeaderName, HeaderValue)> {
    let header = |rule: &ClaimToHeader| {
        let text = match find(claims, &rule.claim)? {
            Value::Array(items) => {
                let items: Option<Vec<_>> =
                    items.iter().map(|item| text(item).filter(|text| !text.contains(','))).collect();
                Cow::Owned(items?.join(","))
            }
            value => text(value)?,
        };
        Some((rule.header.clone(), HeaderValue::from_bytes(text.as_bytes()).ok()?))
    };
    rules.iter().filter_map(header).collect()
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn has_one(claims: &Value, path: &str, value: &str) -> bool {
        has(claims, path, &["nobody".to_owned(), value.to_owned()])
    }

    #[test]
    fn lists_objects_and_dots() {
        let claims = json!({
            "role": ["reader", "admin"], "level": 3, "staff": true, "nothing": null,
            "realm": {"roles": ["x"], "a.b": "y"}, "https://example.com/team": "red",
            "scope": "read write",
        });
        assert!(has_one(&claims, "role", "admin") && !has_one(&claims, "role", "adm"));
        assert!(has_one(&claims, "level", "3") && has_one(&claims, "staff", "true"));
        assert!(has_one(&claims, "realm.roles", "x") && has_one(&claims, "realm.a.b", "y"));
        assert!(has_one(&claims, "https://example.com/team", "red"));
        assert!(has_one(&claims, "scope", "write") && has_one(&claims, "scope", "read write"));
        assert!(!has_one(&claims, "scope", "rea") && !has_one(&claims, "scope", ""));
        for absent in ["nothing", "realm", "realm.none", "none", "role.0", "."] {
            assert!(!has_one(&claims, absent, "null"), "{absent}");
        }
    }

    #[test]
    fn headers_say_what_claims_say_or_nothing() {
        let claims =
            json!({"sub": "a", "roles": ["x", "y"], "odd": ["x,y"], "bad": "a\r\nx-admin: 1", "o": {}});
        let rule = |claim: &str| ClaimToHeader {
            claim: claim.to_owned(),
            header: HeaderName::from_bytes(format!("x-{claim}").as_bytes()).unwrap(),
        };
        let found = headers(&claims, &["sub", "roles", "odd", "bad", "o", "none"].map(rule));
        let found: Vec<_> =
            found.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(found, [("x-sub", "a"), ("x-roles", "x,y")]);
    }
}
