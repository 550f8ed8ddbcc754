//! Lines on their way, with where they come from.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::line::Line;

/// How many lines, and how many of their bytes, are under way at once.
const MAX_RECORDS: usize = 1000;
const MAX_BYTES: usize = 256 * 1024;

/// A line, or a piece of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// The file, by the name under which it was found.
    pub file: Arc<str>,
    /// Which file of that name, and which of its contents: never used for another.
    pub stream: Arc<str>,
    /// Where in it the line begins.
    pub offset: u64,
    /// Its text; what is no UTF-8 is replaced.
    pub message: String,
    /// Something was replaced.
    pub invalid: bool,
    /// It is not the end of its line.
    pub partial: bool,
}

/// Lines that are written, and then remembered, together.
#[derive(Default, Debug)]
pub(super) struct Batch {
    pub records: Vec<Record>,
    bytes: usize,
}

/// Where the lines are from, beside their file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The Pod's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

/// A line as JSON has it.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    pub time: &'a str,
    pub file: &'a str,
    pub message: &'a str,
    #[serde(flatten)]
    pub origin: &'a Origin,
    /// The same if the same line is written again after a kill.
    pub id: String,
    #[serde(skip_serializing_if = "is_false")]
    pub partial: bool,
    #[serde(rename = "invalidUtf8", skip_serializing_if = "is_false")]
    pub invalid: bool,
}

// === impl ===

impl Record {
    pub(super) fn new(file: &Arc<str>, stream: &Arc<str>, at: u64, line: &Line<'_>) -> Self {
        let text = line.text;
        // What is not there: a hole that a writer left who goes on at its old place after a truncation.
        let zeros = text.iter().take_while(|byte| **byte == 0).count();
        let message = String::from_utf8_lossy(&text[zeros..]);
        let invalid = matches!(message, std::borrow::Cow::Owned(_));
        Self {
            file: Arc::clone(file),
            stream: Arc::clone(stream),
            offset: at + line.start as u64,
            message: message.into_owned(),
            invalid,
            partial: line.partial,
        }
    }

    /// Unique among all lines.
    pub(super) fn id(&self) -> String {
        format!("{}:{}", self.stream, self.offset)
    }

    pub(super) fn shown<'a>(&'a self, time: &'a str, origin: &'a Origin) -> Shown<'a> {
        Shown {
            time,
            file: &self.file,
            message: &self.message,
            origin,
            id: self.id(),
            partial: self.partial,
            invalid: self.invalid,
        }
    }
}

impl Batch {
    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.message.len();
        self.records.push(record);
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= MAX_RECORDS || self.bytes >= MAX_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// Nanoseconds since 1970.
pub(super) fn nanos(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::logs) fn record(text: &[u8]) -> Record {
        Record::new(&"/var/log/a".into(), &"s1".into(), 100, &Line { start: 5, text, partial: false })
    }

    #[test]
    fn a_line_says_where_it_is_from() {
        let origin =
            Origin { pod: Some("web-0".into()), namespace: Some("shop".into()), ..Origin::default() };
        let record = record(b"caf\xe9 \"x\"");
        let shown = serde_json::to_value(record.shown("2026-01-01T00:00:00Z", &origin)).unwrap();
        let expected = serde_json::json!({
            "time": "2026-01-01T00:00:00Z", "file": "/var/log/a", "message": "caf\u{fffd} \"x\"",
            "pod": "web-0", "namespace": "shop", "id": "s1:105", "invalidUtf8": true,
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn holes_are_no_text() {
        assert_eq!(record(b"\0\0\0after").message, "after");
    }
}
