use tempfile::TempDir;

use super::accepts;
use crate::{Finished, Netns, Place, Program};

/// A redis server on port 6379 of every address, with nothing saved.
#[derive(Debug)]
pub struct Redis {
    _program: Program,
    _directory: TempDir,
}

impl Redis {
    /// Starts it at `place`, which must be in `netns`.
    #[track_caller]
    pub fn start(netns: &Netns, place: &Place) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = place.command("redis-server");
        command.args(["--port", "6379", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", ""]);
        let program = Program::start(command.arg("--dir").arg(directory.path()));
        Self { _program: accepts(netns, 6379, program), _directory: directory }
    }

    /// What the server at `host` answers to a command from `place`.
    #[track_caller]
    pub fn ask(place: &Place, host: &str, words: &[&str]) -> String {
        Finished::of(place.command("redis-cli").args(["-h", host]).args(words)).success()
    }
}
