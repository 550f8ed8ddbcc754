//! Splits a file into YAML documents and reads each into a raw type.

use serde::de::DeserializeOwned;

use super::error::ConfigError;
use super::model::Location;
use super::source::Source;
use super::yaml;

/// One YAML document of a file.
#[derive(Clone, Copy)]
pub(super) struct Document<'a> {
    file: &'a str,
    /// Lines of the file before it.
    before: u64,
    text: &'a str,
}

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
        let read = yaml::read(self.text).and_then(|tree| T::deserialize(&tree));
        read.map_err(|wrong| ConfigError {
            field: wrong.field(),
            ..ConfigError::of_field(self.at(wrong.line), "", &wrong)
        })
    }
}
