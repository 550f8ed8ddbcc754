//! What the access log shows of requests and answers beside their lines: header fields and the first bytes of bodies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::config::Recording;

/// How many bytes of the header fields of a message are shown.
const MAX_FIELDS: usize = 16 * 1024;
/// How many bytes all recordings may hold that are not written yet.
const MAX_HELD: usize = 32 * 1024 * 1024;
/// What stands for a secret.
const REDACTED: &str = "[redacted]";

/// What is recorded, and how much of it is held.
#[derive(Debug)]
pub struct Recorder {
    config: Recording,
    held: Arc<AtomicUsize>,
}

/// What is recorded of a request and its answer. Flat in its line.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The request's fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_headers: Option<Fields>,
    /// The answer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_headers: Option<Fields>,
    /// The beginning of the request's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<Arc<Excerpt>>,
    /// The beginning of the answer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<Arc<Excerpt>>,
}

/// The beginning of a body, taken as it goes by.
#[derive(Debug)]
pub struct Excerpt {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    bytes: Vec<u8>,
    /// There was more.
    cut: bool,
    room: Room,
}

#[derive(Debug)]
struct Fields {
    shown: Map<String, Value>,
    _room: Room,
}

/// A part of what may be held.
#[derive(Debug)]
struct Room {
    held: Arc<AtomicUsize>,
    own: usize,
}

// === impl Recorder ===

impl Recorder {
    /// By the configuration.
    pub fn new(config: &Recording) -> Self {
        Self { config: config.clone(), held: Arc::default() }
    }

    /// A request comes in with these fields.
    pub fn begin(&self, fields: &HeaderMap) -> Recorded {
        let shown = self.config.request_headers.then(|| self.fields(fields)).flatten();
        Recorded {
            request_headers: shown,
            request_body: self.excerpt(),
            response_body: self.excerpt(),
            ..Recorded::default()
        }
    }

    /// Its answer has these.
    pub fn answered(&self, recorded: &mut Recorded, fields: &HeaderMap) {
        if self.config.response_headers {
            recorded.response_headers = self.fields(fields);
        }
    }

    fn excerpt(&self) -> Option<Arc<Excerpt>> {
        let taken = Taken { bytes: Vec::new(), cut: false, room: self.room() };
        (self.config.body > 0).then(|| Arc::new(Excerpt { most: self.config.body, taken: Mutex::new(taken) }))
    }

    fn room(&self) -> Room {
        Room { held: Arc::clone(&self.held), own: 0 }
    }

    /// `None`: there is no room.
    fn fields(&self, fields: &HeaderMap) -> Option<Fields> {
        let (mut shown, mut left) = (Map::new(), MAX_FIELDS);
        for name in fields.keys() {
            let secret = self.config.redact.iter().any(|one| one == name.as_str());
            for value in fields.get_all(name) {
                let text = if secret { REDACTED.into() } else { String::from_utf8_lossy(value.as_bytes()) };
                let Some(rest) = left.checked_sub(name.as_str().len() + text.len()) else {
                    shown.insert("...".to_owned(), "more is left out".into());
                    break;
                };
                left = rest;
                add(&mut shown, name.as_str(), Value::String(text.into_owned()));
            }
        }
        let mut room = self.room();
        room.take(MAX_FIELDS - left).then_some(Fields { shown, _room: room })
    }
}

/// Several values of a name are a list.
fn add(shown: &mut Map<String, Value>, name: &str, value: Value) {
    match shown.get_mut(name) {
        None => {
            shown.insert(name.to_owned(), value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(other) => *other = Value::Array(vec![other.take(), value]),
    }
}

// === impl Recorded ===

impl Recorded {
    /// Takes the request's body as it goes by.
    pub fn request_body(&self) -> Option<Arc<Excerpt>> {
        self.request_body.clone()
    }

    /// More of the answer's body.
    pub fn received(&self, bytes: &[u8]) {
        if let Some(excerpt) = &self.response_body {
            excerpt.take(bytes);
        }
    }
}

// === impl Excerpt ===

impl Excerpt {
    /// Takes what is still wanted of this piece.
    pub fn take(&self, bytes: &[u8]) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.cut {
            return;
        }
        let more = bytes.len().min(self.most - taken.bytes.len());
        let has_room = taken.room.take(more);
        taken.cut = more < bytes.len() || !has_room;
        if has_room {
            taken.bytes.extend_from_slice(&bytes[..more]);
        }
    }
}

impl Serialize for Excerpt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        shown(&taken.bytes, taken.cut).serialize(serializer)
    }
}

/// Text as it is, and all else in base64. `cut`: there was more.
pub fn shown(bytes: &[u8], cut: bool) -> Value {
    let mut object = Map::new();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        // A character may be cut in its middle.
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text.filter(|text| !text.contains('\0')) {
        Some(text) => object.insert("text".to_owned(), text.into()),
        None => object.insert("base64".to_owned(), STANDARD.encode(bytes).into()),
    };
    if cut {
        object.insert("truncated".to_owned(), true.into());
    }
    Value::Object(object)
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown.serialize(serializer)
    }
}

// === impl Room ===

impl Room {
    /// False, and nothing is taken: too much is held.
    fn take(&mut self, more: usize) -> bool {
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(more).filter(|held| *held <= MAX_HELD)
        });
        self.own += if taken.is_ok() { more } else { 0 };
        taken.is_ok()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorder(body: usize) -> Recorder {
        Recorder::new(&Recording {
            request_headers: true,
            response_headers: true,
            body,
            ..Recording::default()
        })
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("authorization", "Bearer x"), ("x-a", "1"), ("x-a", "2"), ("cookie", "a=b")] {
            fields.append(name, value.parse().unwrap());
        }
        let to = recorder(0);
        let mut recorded = to.begin(&fields);
        to.answered(&mut recorded, &HeaderMap::new());
        let expected = json!({"authorization": REDACTED, "x-a": ["1", "2"], "cookie": REDACTED});
        let shown = serde_json::to_value(&recorded).unwrap();
        assert_eq!(shown, json!({"requestHeaders": expected, "responseHeaders": {}}));
    }

    #[test]
    fn bodies_are_text_or_base64_and_bounded() {
        let to = recorder(4);
        let recorded = to.begin(&HeaderMap::new());
        recorded.received(b"ab");
        recorded.received("c\u{e9}f".as_bytes());
        recorded.request_body().unwrap().take(&[0xff, 0]);
        let shown = serde_json::to_value(&recorded).unwrap();
        assert_eq!(shown["responseBody"], json!({"text": "abc", "truncated": true}));
        assert_eq!(shown["requestBody"], json!({"base64": "/wA="}));
        assert_eq!(to.held.load(Ordering::Relaxed), 6);
        drop(recorded);
        assert_eq!(to.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn many_fields_are_cut_and_what_is_held_is_bounded() {
        let mut fields = HeaderMap::new();
        for number in 0..100 {
            fields.append("x-long", format!("{number}{}", "x".repeat(1000)).parse().unwrap());
        }
        let to = recorder(8);
        let shown = serde_json::to_value(to.begin(&fields)).unwrap();
        assert_eq!(shown["requestHeaders"]["x-long"].as_array().unwrap().len(), 16);
        to.held.store(MAX_HELD, Ordering::Relaxed);
        let recorded = to.begin(&fields);
        recorded.received(b"abc");
        let shown = serde_json::to_value(&recorded).unwrap();
        assert!(shown["requestHeaders"].is_null());
        assert_eq!(shown["responseBody"], json!({"text": "", "truncated": true}));
    }
}
