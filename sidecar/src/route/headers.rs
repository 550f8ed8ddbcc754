//! Changes of header fields.

use http::HeaderMap;

use crate::config::route::HeaderEdits;

/// Makes the changes: removes, then sets, then adds.
pub fn apply(edits: &HeaderEdits, headers: &mut HeaderMap) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edits.add {
        headers.append(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn sets_adds_and_removes() {
        let name = HeaderName::from_static;
        let value = HeaderValue::from_static;
        let mut headers = HeaderMap::new();
        for (field, text) in
            [("x-set", "a"), ("x-set", "b"), ("x-add", "a"), ("x-gone", "a"), ("x-kept", "a")]
        {
            headers.append(name(field), value(text));
        }
        let edits = HeaderEdits {
            set: vec![(name("x-set"), value("c")), (name("x-new"), value("c"))],
            add: vec![(name("x-add"), value("c")), (name("x-other"), value("c"))],
            remove: vec![name("x-gone"), name("x-never")],
        };
        apply(&edits, &mut headers);
        let all = |field: &str| -> Vec<_> { headers.get_all(field).iter().cloned().collect() };
        assert_eq!(all("x-set"), ["c"]);
        assert_eq!(all("x-new"), ["c"]);
        assert_eq!(all("x-add"), ["a", "c"]);
        assert_eq!(all("x-other"), ["c"]);
        assert_eq!(all("x-kept"), ["a"]);
        assert!(!headers.contains_key("x-gone"));
    }
}
