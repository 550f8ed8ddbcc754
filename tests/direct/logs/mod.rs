//! `sidecar logs`: every line is numbered, and none may be missing.

mod otlp;
mod receiver;
mod restart;
mod rotation;
mod slow;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;
use sidecar_tests::{DEADLINE, Place, Program, binary, eventually};
use tempfile::TempDir;

/// A directory of files, and the numbered lines that were written to them.
struct Volume {
    directory: TempDir,
    written: u64,
}

impl Volume {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), written: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn append(&self, name: &str) -> File {
        OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap()
    }

    /// Appends so many lines, numbered on.
    fn write(&mut self, name: &str, lines: u64) {
        let mut file = self.append(name);
        for _ in 0..lines {
            self.written += 1;
            writeln!(file, "this is line {}", self.written).unwrap();
        }
    }

    fn args(&self, glob: &str, more: &[&str]) -> Vec<String> {
        let source = self.path(glob).to_str().unwrap().to_owned();
        let args = ["logs".to_owned(), "--source".to_owned(), source];
        args.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    }

    /// Follows, with a checkpoint beside the files.
    fn follow(&self, glob: &str, more: &[&str]) -> Program {
        let checkpoint = self.path("checkpoint.json");
        let mut args = self.args(glob, more);
        args.extend(["--checkpoint".to_owned(), checkpoint.to_str().unwrap().to_owned()]);
        let mut command = Place::default().without_capabilities().command(binary());
        command.env("POD_NAME", "web-0").env("POD_NAMESPACE", "shop").env_remove("NODE_NAME").args(args);
        Program::start(&mut command).ended_by(Signal::SIGTERM)
    }
}

/// The lines of an output that are whole.
fn lines(output: &str) -> Vec<Value> {
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    whole.lines().map(read).collect()
}

/// The number of a line.
fn number(line: &Value) -> u64 {
    let message = line["message"].as_str().unwrap();
    message.strip_prefix("this is line ").unwrap_or_else(|| panic!("{line}")).parse().unwrap()
}

/// Waits until the last line is out, then ends the program and expects each line once, in its order.
#[track_caller]
fn expect_each_once(volume: &Volume, program: Program) -> Vec<Value> {
    expect_each(volume, program, false)
}

/// Likewise; rotated files that are followed by their own names have no order among them.
#[track_caller]
fn expect_each(volume: &Volume, mut program: Program, unordered: bool) -> Vec<Value> {
    let last = format!("this is line {}\"", volume.written);
    eventually(3 * DEADLINE, &last, || {
        assert!(!program.has_ended(), "{}", program.stderr());
        program.stdout().contains(&last).then_some(())
    });
    program.signal(Signal::SIGTERM);
    let ended = program.wait();
    assert!(ended.status.success(), "{ended:?}");
    let lines = lines(&ended.stdout);
    let mut numbers: Vec<u64> = lines.iter().map(number).collect();
    if unordered {
        numbers.sort_unstable();
    }
    let wrong = numbers.iter().zip(1..).find(|(have, expected)| *have != expected);
    assert_eq!(wrong, None, "of {}, {} lines: {}", volume.written, numbers.len(), ended.stderr);
    assert_eq!(numbers.len() as u64, volume.written);
    lines
}

/// The lines of several runs by number, with their ids: a line that came again has the id that it had.
#[track_caller]
fn by_number(runs: &[Vec<Value>]) -> BTreeMap<u64, usize> {
    let mut ids = BTreeMap::new();
    let mut times = BTreeMap::new();
    for line in runs.iter().flatten() {
        let (number, id) = (number(line), line["id"].as_str().unwrap());
        assert_eq!(ids.entry(number).or_insert(id), &id, "line {number}");
        *times.entry(number).or_default() += 1;
    }
    times
}
