//! Streams of documents: each object with Pods is changed, all else stays as it is, byte for byte.

use std::fmt;

use serde_json::Value;

use super::object::{Changes, change, may_have_pods};
use super::yaml::{Broken, Node, emit};
use super::{Refusal, Settings};
use crate::config::document::{has_content, is_marker, lines_of, pieces};

/// A stream with the sidecar in it.
#[derive(Debug)]
pub struct Injected {
    /// The documents.
    pub text: String,
    /// What is left as it is, or should be known; one line each.
    pub notes: Vec<String>,
}

/// What is wrong, one line each: `FILE:LINE: document N, KIND NAME: WHY`.
#[derive(Debug, Default)]
pub struct ManifestErrors {
    lines: Vec<String>,
    is_mistake: bool,
}

/// Where a document stands, for messages.
struct Place<'a> {
    file: &'a str,
    number: usize,
    /// Lines of the file before it.
    before: u64,
}

/// Injects into all objects of a text, which messages call `file`.
pub fn inject(text: &str, file: &str, settings: &Settings) -> Result<Injected, ManifestErrors> {
    let mut injected = Injected { text: String::with_capacity(text.len()), notes: Vec::new() };
    let mut errors = ManifestErrors::default();
    // A byte order mark may come first (YAML 1.2.2, section 5.2).
    let text = match text.strip_prefix('\u{feff}') {
        Some(text) => {
            injected.text.push('\u{feff}');
            text
        }
        None => text,
    };
    let mut number = 0;
    for (before, piece) in pieces(text) {
        if !lines_of(piece).any(has_content) {
            injected.text.push_str(piece);
            continue;
        }
        number += 1;
        let place = Place { file, number, before };
        match document(piece, &place, settings, &mut injected, &mut errors) {
            Ok(changed) => injected.text.push_str(changed.as_deref().unwrap_or(piece)),
            Err(broken) => errors.broken(&place, &broken),
        }
    }
    if errors.lines.is_empty() { Ok(injected) } else { Err(errors) }
}

/// The text of a document with the sidecar in it; `None`: it stays as it is.
fn document(
    piece: &str,
    place: &Place<'_>,
    settings: &Settings,
    injected: &mut Injected,
    errors: &mut ManifestErrors,
) -> Result<Option<String>, Broken> {
    let start: usize = lines_of(piece).take_while(|line| is_head(line)).map(str::len).sum();
    let (head, body) = piece.split_at(start);
    let content = Place { before: place.before + lines_of(head).count() as u64, ..*place };
    let mut changed = |value: &Value| {
        let (mut new, mut changes) = (value.clone(), Changes::default());
        change(&mut new, settings, &mut changes);
        injected.notes.extend(changes.notes.iter().map(|(title, note)| content.line(1, title, note)));
        for (title, refusal) in &changes.refusals {
            errors.refused(&content, title, refusal);
        }
        (new != *value && changes.refusals.is_empty()).then_some(new)
    };
    if let Some(objects) = json(body) {
        let (mut text, mut done, mut any) = (head.to_owned(), 0, false);
        for (from, to, value) in objects {
            text.push_str(&body[done..from]);
            match changed(&value) {
                Some(new) => {
                    text.extend([format!("{new:#}")]);
                    any = true;
                }
                None => text.push_str(&body[from..to]),
            }
            done = to;
        }
        text.push_str(&body[done..]);
        return Ok(any.then_some(text));
    }
    let Some(node) = Node::read(piece)? else { return Ok(None) };
    if !concerns_us(&node) {
        return Ok(None);
    }
    let value = node.value()?;
    Ok(changed(&value).map(|new| {
        let marker = if body.starts_with("---") { "---\n" } else { "" };
        let end = lines_of(body).last().filter(|line| is_marker(line, "...")).unwrap_or_default();
        let text = format!("{marker}{}", emit(&new, Some(&node)));
        // As it was: a file of two sorts of line ends is a nuisance.
        let windows = lines_of(piece).next().is_some_and(|line| line.ends_with("\r\n"));
        let text = if windows { text.replace('\n', "\r\n") } else { text };
        format!("{head}{text}{end}")
    }))
}

/// Comments, directives and the marker before a document, which hold whatever becomes of it.
fn is_head(line: &str) -> bool {
    !has_content(line) || line.starts_with('%')
}

/// Whether there may be Pods in it, as far as can be told before all of it is understood.
fn concerns_us(node: &Node) -> bool {
    let Node::Map(entries) = node else { return false };
    let top = entries.iter().filter(|(key, value)| {
        let is_known = |name: &str| matches!(key, Node::Scalar(scalar) if scalar.text == name);
        ["apiVersion", "kind"].into_iter().any(is_known) && matches!(value, Node::Scalar(_))
            || is_known("items") && matches!(value, Node::List(_))
    });
    let top = Node::Map(
        top.map(|(key, value)| match value {
            Node::List(_) => (key.clone(), Node::List(Vec::new())),
            value => (key.clone(), value.clone()),
        })
        .collect(),
    );
    top.value().is_ok_and(|object| may_have_pods(&object))
}

/// The values of a document in JSON, one after the other, and where they stand. `None`: it is none, but may still be YAML.
fn json(body: &str) -> Option<Vec<(usize, usize, Value)>> {
    if !body.trim_start().starts_with('{') {
        return None;
    }
    let mut values = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(body).into_iter::<Value>();
    let mut done = 0;
    while let Some(value) = stream.next() {
        let end = stream.byte_offset();
        let space = body[done..end].len() - body[done..end].trim_start().len();
        values.push((done + space, end, value.ok()?));
        done = end;
    }
    Some(values)
}

// === impl Place ===

impl Place<'_> {
    fn line(&self, line: usize, title: &str, why: impl fmt::Display) -> String {
        let line = self.before + line.max(1) as u64;
        let title = if title.is_empty() { String::new() } else { format!(", {title}") };
        format!("{}:{line}: document {}{title}: {why}", self.file, self.number)
    }
}

// === impl ManifestErrors ===

impl ManifestErrors {
    /// Something is wrong with the input itself, rather than with what it asks for.
    pub fn is_mistake(&self) -> bool {
        self.is_mistake
    }

    fn broken(&mut self, place: &Place<'_>, broken: &Broken) {
        self.is_mistake = true;
        self.lines.push(place.line(broken.line, "", format_args!("is not valid YAML: {}", broken.why)));
    }

    fn refused(&mut self, place: &Place<'_>, title: &str, refusal: &Refusal) {
        self.is_mistake |= refusal.is_mistake();
        self.lines.push(place.line(1, title, refusal));
    }
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for ManifestErrors {}
