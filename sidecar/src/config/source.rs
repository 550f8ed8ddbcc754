//! Reads the files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ConfigErrors};

/// How large a file may be, in bytes: a `ConfigMap` holds no more.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// How many files of a directory are read.
pub const MAX_FILES: usize = 1_000;

/// A file's name, as errors show it, and its text.
#[derive(Hash)]
pub(super) struct Source {
    pub name: String,
    pub text: String,
}

/// Reads a file, or those of a directory.
pub(super) fn read(path: &Path) -> Result<Vec<Source>, ConfigErrors> {
    let unreadable = |error| ConfigErrors::from(cannot_read(path, &error));
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![read_file(path)?]);
    }
    let files = list(path).map_err(unreadable)?;
    if files.is_empty() {
        return Err(refuse(path, "has no *.yaml, *.yml or *.json in it").into());
    }
    if files.len() > MAX_FILES {
        let why = format_args!("has {} files, more than {MAX_FILES}; join some", files.len());
        return Err(refuse(path, why).into());
    }
    let (mut sources, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        match read_file(&file) {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    ConfigErrors::unless(errors, sources)
}

/// The configuration files of a directory, sorted. What a symbolic link leads to counts, so that `..data` of a
/// mounted `ConfigMap` is read once, through the links beside it.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let ours =
            path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|e| ending == *e));
        // A link that leads nowhere stays in the list, so that reading it is reported.
        if ours && !hidden && fs::metadata(&path).map_or(true, |metadata| metadata.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file of any type: a pipe is fine.
fn read_file(path: &Path) -> Result<Source, ConfigError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| cannot_read(path, &error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse(path, "is larger than 1 MiB; split it into several files of one directory"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        refuse(path, format_args!("is not UTF-8 at byte {valid}; save it as UTF-8"))
    })?;
    Ok(Source { name: path.display().to_string(), text })
}

fn cannot_read(path: &Path, error: &io::Error) -> ConfigError {
    refuse(path, format_args!("cannot read: {error}"))
}

fn refuse(path: &Path, why: impl std::fmt::Display) -> ConfigError {
    ConfigError::of_file(&path.display().to_string(), why)
}
