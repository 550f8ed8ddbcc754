//! The client program: `programs/probe.py`, whose subcommands print one JSON line.

use std::process::Command;

use serde_json::Value;

use crate::{Finished, Place, Program, servers};

/// A probe that has said what it saw, and holds its connections open until it is finished.
#[derive(Debug)]
pub struct Probe {
    program: Program,
    seen: Value,
}

/// Runs a probe at `place` to its end and gives what it saw. `args` are documented in the program.
#[track_caller]
pub fn probe(place: &Place, args: &[&str]) -> Value {
    let finished = Finished::of(servers::python(place, "probe.py").args(args));
    last_line(&finished.success())
}

/// Runs `programs/http_client.py` at `place` to its end and gives the lines that it printed, one for each case.
#[track_caller]
pub fn ask_http(place: &Place, args: &[&str]) -> Vec<Value> {
    let finished = Finished::of(servers::python(place, "http_client.py").args(args));
    finished.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Probe {
    /// Runs a probe at `place` until it has said what it saw, with its connections open.
    #[track_caller]
    pub fn hold(place: &Place, args: &[&str]) -> Self {
        Self::start(servers::python(place, "probe.py").args(args).arg("--hold"))
    }

    /// The same of `programs/bypass.py`, both ends of connections in one program.
    #[track_caller]
    pub fn hold_both_ends(place: &Place, args: &[&str]) -> Self {
        Self::start(servers::python(place, "bypass.py").args(args))
    }

    /// Runs another program that says on lines of JSON what it saw, until the first.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut program = Program::start(command);
        let seen = last_line(&program.wait_for_output("\n"));
        Self { program, seen }
    }

    /// What it saw before it paused.
    pub fn seen(&self) -> &Value {
        &self.seen
    }

    /// Its process id.
    pub fn pid(&self) -> u64 {
        u64::try_from(self.program.pid().as_raw()).unwrap()
    }

    /// Lets it close its connections, and gives the last that it saw.
    #[track_caller]
    pub fn finish(mut self) -> Value {
        self.program.close_stdin();
        last_line(&self.program.wait().success())
    }
}

#[track_caller]
fn last_line(output: &str) -> Value {
    let line = output.lines().last().expect("the probe printed nothing");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
