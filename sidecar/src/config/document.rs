//! Splits a file into YAML documents and reads each into a raw type.

use serde::de::DeserializeOwned;
use serde_path_to_error::{Deserializer, Path, Segment, Track};
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

use super::error::ConfigError;
use super::model::Location;
use super::source::Source;

/// One YAML document of a file.
#[derive(Clone, Copy)]
pub(super) struct Document<'a> {
    file: &'a str,
    /// Lines of the file before it.
    before: u64,
    text: &'a str,
}

/// What an alias may expand to in one document, in YAML events.
const MAX_ALIAS_EVENTS: usize = 1_000;

/// How much of a name or message that the file determines is shown, in characters.
const MAX_SHOWN: usize = 200;

/// The documents of a file that hold anything but comments.
///
/// `---` and `...` at the start of a line end a document wherever they stand (YAML 1.2.2, section 9.1.2), so that
/// the lines alone tell; and what is wrong with one document does not hide the next.
pub(super) fn split(source: &Source) -> Vec<Document<'_>> {
    // A byte order mark may come first (YAML 1.2.2, section 5.2).
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    pieces(text)
        .filter(|(_, text)| lines_of(text).any(has_content))
        .map(|(before, text)| Document { file: &source.name, before, text })
        .collect()
}

/// The documents of a text, also the empty ones, each with how many lines are before it. Together they are the text.
pub(crate) fn pieces(mut rest: &str) -> impl Iterator<Item = (u64, &str)> {
    let mut before = 0;
    std::iter::from_fn(move || {
        let (bytes, lines) = extent(rest);
        let (text, tail) = rest.split_at(bytes);
        let piece = (before, text);
        (rest, before) = (tail, before + lines);
        (!text.is_empty()).then_some(piece)
    })
}

/// The bytes and lines of the first document of `text`.
fn extent(text: &str) -> (usize, u64) {
    let (mut bytes, mut lines, mut begun) = (0, 0, false);
    for line in lines_of(text) {
        let starts = is_marker(line, "---");
        if starts && begun {
            break;
        }
        // Directives stand before the `---` of their document.
        begun |= starts || (has_content(line) && !line.starts_with('%'));
        bytes += line.len();
        lines += 1;
        if is_marker(line, "...") {
            break;
        }
    }
    (bytes, lines)
}

/// The lines of a text with their ends: LF, CRLF, or CR alone (YAML 1.2.2, section 5.4).
pub(crate) fn lines_of(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let end =
            text.find(['\r', '\n']).map(|at| if text[at..].starts_with("\r\n") { at + 2 } else { at + 1 });
        let (line, rest) = text.split_at(end.unwrap_or(text.len()));
        text = rest;
        (!line.is_empty()).then_some(line)
    })
}

/// Whether a line is this marker, whatever stands behind it.
pub(crate) fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there is more on a line than a marker and a comment.
pub(crate) fn has_content(line: &str) -> bool {
    let marker = ["---", "..."].into_iter().find(|marker| is_marker(line, marker));
    let line = line.strip_prefix(marker.unwrap_or_default()).unwrap_or(line).trim();
    !line.is_empty() && !line.starts_with('#')
}

// === impl Document ===

impl Document<'_> {
    /// The place in the file of a line of this document, counted from 1.
    pub(super) fn at(&self, line: u64) -> Location {
        Location { file: self.file.to_owned(), line: self.before + line.max(1) }
    }

    /// Reads the document.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIAS_EVENTS },
        };
        let mut track = Track::new();
        serde_saphyr::with_deserializer_from_str_with_options(self.text, options, |yaml| {
            T::deserialize(Deserializer::new(yaml, &mut track))
        })
        .map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let (field, why) = explain(&error, &track.path());
            // The document itself has no path.
            let field = field.filter(|field| !field.is_empty());
            ConfigError { field, ..ConfigError::of_field(self.at(line), "", why) }
        })
    }
}

/// The field that an error is about, and what to do about it.
fn explain(error: &Error, at: &Path) -> (Option<String>, String) {
    match error {
        Error::AliasError { error, .. } => explain(error, at),
        Error::SerdeUnknownField { field, expected, .. } => {
            let why = format!("unknown field; the fields here are {}", expected.join(", "));
            (Some(path(at, Some(field))), why)
        }
        Error::SerdeMissingField { field, .. } => (Some(path(at, Some(field))), "is required".to_owned()),
        Error::DuplicateMappingKey { key, .. } => {
            (Some(path(at, key.as_deref())), "is given twice; leave one out".to_owned())
        }
        Error::NullIntoString { .. } => (Some(path(at, None)), "is empty; write a value".to_owned()),
        Error::Unexpected { expected, .. } => {
            let why = match *expected {
                "string scalar" => "write a single value here, not a list or a map",
                "sequence start" => "write a list here",
                "mapping start" => "write a map of fields here",
                _ => return (Some(path(at, None)), format!("expected {expected}")),
            };
            (Some(path(at, None)), why.to_owned())
        }
        Error::Message { .. } | Error::SerdeInvalidType { .. } | Error::SerdeInvalidValue { .. } => {
            (Some(path(at, None)), message(error))
        }
        _ => (None, format!("not valid YAML: {}", message(error))),
    }
}

fn message(error: &Error) -> String {
    shown(&UserMessageFormatter.format_message(error))
}

/// What the file says, fit for one line of output.
fn shown(text: &str) -> String {
    let shown = text.chars().take(MAX_SHOWN);
    shown.map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect()
}

/// A field's path as we print it: `spec.listeners[0].name`, with `leaf` as the last step where the error knows it.
///
/// The wrapper that knows a value's place (`serde_saphyr::Spanned`) shows in paths as a field called `value`; such
/// steps are left out. A field that is called `value` itself and holds a scalar gives two of them.
fn path(at: &Path, leaf: Option<&str>) -> String {
    let is_value = |step: Option<&&Segment>| matches!(step, Some(Segment::Map { key }) if key == "value");
    let all: Vec<&Segment> = at.iter().filter(|step| !matches!(step, Segment::Unknown)).collect();
    let mut steps: Vec<&Segment> = Vec::new();
    for (i, step) in all.iter().enumerate() {
        let doubled = i > 0 && is_value(all.get(i - 1)) && !is_value(steps.last());
        if !is_value(Some(step)) || doubled {
            steps.push(step);
        }
    }
    // An unknown field is the last step already, a missing one is not.
    if let (Some(Segment::Map { key }), Some(leaf)) = (steps.last(), leaf)
        && key == leaf
    {
        steps.pop();
    }
    let steps =
        steps.into_iter().map(ToString::to_string).chain(leaf.map(str::to_owned)).map(|step| shown(&step));
    steps.fold(String::new(), |path, step| {
        let dot = if path.is_empty() || step.starts_with('[') { "" } else { "." };
        path + dot + &step
    })
}
