//! Reads the values of one document and collects what is wrong with them.

use std::fmt::Display;

use crate::config::shape::Spanned;

use super::document::Document;
use super::error::ConfigError;
use super::model::{Location, Unused};
use super::raw::Text;

/// The errors of one document, and what else is found on the way.
pub(super) struct Check<'a> {
    pub document: Document<'a>,
    pub errors: Vec<ConfigError>,
    /// What it names that may stand in a later document, and must be there.
    pub references: Vec<Reference>,
    /// What it asks for that has no effect.
    pub unused: Vec<Unused>,
}

/// A name of something that must be there.
pub(super) struct Reference {
    pub to: Referent,
    pub name: String,
    pub field: String,
    pub at: Location,
}

/// What a [`Reference`] is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Referent {
    Listener,
    DirectResponse,
}

/// How much of a wrong value is shown, in characters.
const SHOWN: usize = 80;

impl<'a> Check<'a> {
    pub(super) fn new(document: Document<'a>) -> Self {
        Self { document, errors: Vec::new(), references: Vec::new(), unused: Vec::new() }
    }

    /// Notes that the field on this line of the document is wrong.
    pub(super) fn refuse(&mut self, line: u64, field: &str, why: impl Display) {
        self.errors.push(ConfigError::of_field(self.document.at(line), field, why));
    }

    /// Notes that this value is wrong.
    pub(super) fn refuse_value(&mut self, field: &str, text: &Text, why: impl Display) {
        let shown: String = text.value.chars().take(SHOWN).collect();
        let more = if shown.len() < text.value.len() { "..." } else { "" };
        self.refuse(text.line, field, format_args!("{shown:?}{more}: {why}"));
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

    /// What `read` makes of each item of a list of up to `max`, in their order. What is wrong is noted and left out.
    pub(super) fn list<T, U>(
        &mut self,
        field: &str,
        items: &[Spanned<T>],
        max: usize,
        mut read: impl FnMut(&mut Self, &str, &Spanned<T>) -> Option<U>,
    ) -> Vec<U> {
        if let Some(more) = items.get(max) {
            let why = format_args!("{} are more than {max}; leave some out", items.len());
            self.refuse(more.line, field, why);
            return Vec::new();
        }
        items.iter().enumerate().filter_map(|(i, item)| read(self, &format!("{field}[{i}]"), item)).collect()
    }

    /// Notes that the object of this name, which stands there, must be in some document.
    pub(super) fn refer(&mut self, to: Referent, name: &str, field: &str, line: u64) {
        let at = self.document.at(line);
        self.references.push(Reference { to, name: name.to_owned(), field: field.to_owned(), at });
    }

    /// Notes that what is asked for on this line has no effect.
    pub(super) fn note_unused(&mut self, kind: &str, name: &str, line: u64) {
        let location = self.document.at(line);
        self.unused.push(Unused { kind: kind.to_owned(), name: name.to_owned(), location });
    }
}
