//! Running programs: guards that end what was started, and what it printed.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{DEADLINE, eventually, within};

/// What is kept of each output stream; the rest is read and dropped, so that the program never blocks. A list of all
/// connections while another test holds 10,000 takes some 5 MiB.
const OUTPUT_LIMIT: usize = 16 << 20;

/// How long a program may take to end by its own signal before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// A running program. Dropping it ends it and waits for it.
#[derive(Debug)]
#[must_use = "a program ends when its guard is dropped"]
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Output,
    stderr: Output,
    end: Signal,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it printed, lossily decoded.
    pub stdout: String,
    /// What it complained about, lossily decoded.
    pub stderr: String,
}

#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    ended: bool,
}

impl Program {
    /// Starts `command` with its three standard streams held by the guard.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self {
            stdin: child.stdin.take(),
            stdout: Output::collect(child.stdout.take().unwrap()),
            stderr: Output::collect(child.stderr.take().unwrap()),
            child,
            end: Signal::SIGKILL,
        }
    }

    /// The signal that a drop tries first. For programs that have children of their own to end.
    pub fn ended_by(mut self, signal: Signal) -> Self {
        self.end = signal;
        self
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has complained about so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until it has printed `pattern`, and returns all it has printed.
    #[track_caller]
    pub fn wait_for_output(&mut self, pattern: &str) -> String {
        eventually(3 * DEADLINE, &format!("{pattern:?} in a program's output"), || {
            let ended = self.has_ended();
            let text = self.stdout();
            if text.contains(pattern) {
                return Some(text);
            }
            assert!(!ended, "the program ended without {pattern:?}: {text}{}", self.stderr());
            None
        })
    }

    /// Writes to its standard input.
    pub fn say(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Ends its standard input: what a held probe waits for.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Whether it is gone.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it is gone.
    #[track_caller]
    pub fn wait(&mut self) -> Finished {
        self.wait_for(DEADLINE)
    }

    /// Waits until it is gone, at most so long.
    #[track_caller]
    pub fn wait_for(&mut self, deadline: Duration) -> Finished {
        let pid = self.pid();
        let status =
            eventually(deadline, &format!("the end of process {pid}"), || self.child.try_wait().unwrap());
        // A program that it left behind may hold the streams open; what it printed itself is in the pipe by now.
        within(Duration::from_secs(1), || (self.stdout.has_ended() && self.stderr.has_ended()).then_some(()));
        Finished { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stdin = None;
        if self.end != Signal::SIGKILL && !self.has_ended() {
            self.signal(self.end);
            within(GRACE, || self.has_ended().then_some(()));
        }
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Runs `command` to its end.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let mut program = Program::start(command);
        program.close_stdin();
        program.wait_for(3 * DEADLINE)
    }

    /// Its standard output, when it ended well.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}: {}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

impl Output {
    fn collect(mut stream: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let kept = output.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let bytes = &mut kept.0.lock().unwrap().bytes;
                let room = OUTPUT_LIMIT - bytes.len();
                bytes.extend_from_slice(&buffer[..length.min(room)]);
            }
            kept.0.lock().unwrap().ended = true;
        });
        output
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().bytes).into_owned()
    }

    fn has_ended(&self) -> bool {
        self.0.lock().unwrap().ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_both_streams_and_the_status() {
        let ended = Finished::of(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn drop_ends_the_program() {
        let program = Program::start(Command::new("sleep").arg("1000"));
        let pid = program.pid();
        drop(program);
        assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
    }

    #[test]
    fn output_is_bounded_and_never_blocks_the_program() {
        let ended = Finished::of(Command::new("head").args(["-c", "20000000", "/dev/zero"]));
        assert!(ended.status.success());
        assert_eq!(ended.stdout.len(), OUTPUT_LIMIT);
    }

    #[test]
    fn output_is_seen_while_the_program_runs() {
        let mut program =
            Program::start(Command::new("sh").args(["-c", "echo ready; read line; echo $line"]));
        program.wait_for_output("ready");
        program.say("go\n");
        assert_eq!(program.wait().stdout, "ready\ngo\n");
    }
}
