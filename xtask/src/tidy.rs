//! House rules that no linter knows.

use crate::util::{output, workspace};
use anyhow::{Result, bail};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The most lines that a source file has.
const MOST_LINES: usize = 600;

/// Marks of unfinished work, in two parts so that this file has none.
const MARKS: [(&str, &str); 4] = [("TO", "DO"), ("FIX", "ME"), ("X", "XX"), ("dbg", "!(")];

/// Looks through every file that git tracks or would track.
pub(crate) fn run() -> Result<()> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let files = output(Command::new("git").args(list).current_dir(workspace()))?;
    let places = places();
    let mut findings = Vec::new();
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        // What is not there or not text has no lines to look at.
        if let Ok(text) = fs::read_to_string(workspace().join(file)) {
            findings.extend(check(file, &text, &places));
        }
    }
    if !findings.is_empty() {
        bail!("tidy:\n{}", findings.join("\n"));
    }
    Ok(())
}

/// Directories of this machine, which no file may name: homes, where this clone is, and what is beside it.
fn places() -> Vec<String> {
    let beside =
        workspace().parent().filter(|parent| parent.parent().is_some() && *parent != env::temp_dir());
    let here = [Some(workspace()), beside].into_iter().flatten().map(Path::to_path_buf);
    let homes = ["ho", "Us", ""].into_iter().zip(["me", "ers", ""]).map(|(a, b)| format!("/{a}{b}"));
    let own = env::var_os("HOME").map(|home| home.to_string_lossy().into_owned());
    let all = here.map(|path| path.display().to_string()).chain(homes).chain(own);
    all.filter(|place| place.len() > 1).map(|place| place + "/").collect()
}

/// What is wrong with one file.
fn check(file: &str, text: &str, places: &[String]) -> Vec<String> {
    let is_rust = Path::new(file).extension().is_some_and(|extension| extension == "rs");
    let lines = text.lines().count();
    let mut findings = Vec::new();
    if is_rust && lines > MOST_LINES {
        findings.push(format!("{file}: {lines} lines; more than {MOST_LINES} is more than one idea"));
    }
    for (index, line) in text.lines().enumerate() {
        let marks = MARKS.iter().map(|(a, b)| format!("{a}{b}"));
        let found = marks.filter(|_| is_rust).chain(places.iter().cloned()).find(|mark| has_word(line, mark));
        if let Some(mark) = found {
            findings.push(format!("{file}:{}: {mark}", index + 1));
        }
    }
    findings
}

/// True when `mark` is in the line and does not begin inside a word or a longer path.
fn has_word(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '}' | '-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_long_files_marks_and_places() {
        let places = ["/place/".to_owned()];
        let mark = format!("// {}{}: later\n", "TO", "DO");
        assert_eq!(check("a.rs", &mark, &places).len(), 1);
        assert_eq!(check("a.md", &mark, &places), [""; 0]);
        assert_eq!(check("a.md", "see /place/x", &places), ["a.md:1: /place/"]);
        assert_eq!(check("a.md", "see ../place/x and https://host.example/place/x", &places), [""; 0]);
        assert_eq!(check("a.rs", &"\n".repeat(MOST_LINES + 1), &places).len(), 1);
        assert_eq!(check("a.rs", &"\n".repeat(MOST_LINES), &places), [""; 0]);
    }
}
