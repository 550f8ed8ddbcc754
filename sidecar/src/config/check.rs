//! Reads the values of one document and collects what is wrong with them.

use std::fmt::Display;

use super::document::Document;
use super::error::ConfigError;
use super::raw::Text;

/// The errors of one document.
pub(super) struct Check<'a> {
    pub document: Document<'a>,
    pub errors: Vec<ConfigError>,
}

/// How much of a wrong value is shown, in characters.
const SHOWN: usize = 80;

impl<'a> Check<'a> {
    pub(super) fn new(document: Document<'a>) -> Self {
        Self { document, errors: Vec::new() }
    }

    /// Notes that the field on this line of the document is wrong.
    pub(super) fn refuse(&mut self, line: u64, field: &str, why: impl Display) {
        self.errors.push(ConfigError::of_field(self.document.at(line), field, why));
    }

    /// Notes that this value is wrong.
    pub(super) fn refuse_value(&mut self, field: &str, text: &Text, why: impl Display) {
        let shown: String = text.value.chars().take(SHOWN).collect();
        let more = if shown.len() < text.value.len() { "..." } else { "" };
        self.refuse(text.referenced.line(), field, format_args!("{shown:?}{more}: {why}"));
    }

    /// The value, unless it is wrong, which is noted.
    pub(super) fn value<T, E: Display>(
        &mut self,
        field: &str,
        text: &Text,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(&text.value).map_err(|why| self.refuse_value(field, text, why)).ok()
    }

    /// Likewise, or `default` where there is none.
    pub(super) fn value_or<T, E: Display>(
        &mut self,
        field: &str,
        text: Option<&Text>,
        default: T,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        text.and_then(|text| self.value(field, text, parse)).unwrap_or(default)
    }

    /// The values of a list, sorted and without duplicates.
    pub(super) fn set<T: Ord, E: Display>(
        &mut self,
        field: &str,
        texts: &[Text],
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let mut values: Vec<T> = texts
            .iter()
            .enumerate()
            .filter_map(|(i, text)| self.value(&format!("{field}[{i}]"), text, &parse))
            .collect();
        values.sort();
        values.dedup();
        values
    }
}
