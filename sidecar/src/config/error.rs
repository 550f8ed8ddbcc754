//! What is wrong with a configuration, and where.

use std::fmt;

use super::model::Location;

/// One thing that is wrong. Reads `FILE:LINE: FIELD: WHY`; what has no line or field leaves that part out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct ConfigError {
    /// The file, as it was named to us.
    pub file: String,
    /// The line in the file, from 1.
    pub line: Option<u64>,
    /// The path of the field from the document's root, such as `spec.listeners[0].address`.
    pub field: Option<String>,
    /// What is wrong and what to write instead; one line.
    pub why: String,
}

/// What is wrong, at least one error, in the order of files and lines. Displays one line for each.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    /// How many further errors were left out.
    more: usize,
}

/// How many errors are kept.
const MAX_ERRORS: usize = 100;

// === impl ConfigError ===

impl ConfigError {
    pub(super) fn of_file(file: &str, why: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), line: None, field: None, why: why.to_string() }
    }

    pub(super) fn of_field(at: Location, field: &str, why: impl fmt::Display) -> Self {
        Self { file: at.file, line: Some(at.line), field: Some(field.to_owned()), why: why.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.why)
    }
}

// === impl ConfigErrors ===

impl ConfigErrors {
    /// `value`, unless something is wrong.
    pub(super) fn unless<T>(mut errors: Vec<ConfigError>, value: T) -> Result<T, Self> {
        if errors.is_empty() {
            return Ok(value);
        }
        errors.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        Err(Self { errors, more })
    }

    /// The first 100 errors, in the order of files and lines.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.errors.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self { errors: vec![error], more: 0 }
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{more} more"),
        }
    }
}
