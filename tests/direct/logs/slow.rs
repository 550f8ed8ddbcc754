use std::fs;
use std::io::Read;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sidecar_tests::{DEADLINE, Place, binary, eventually};

use super::{Volume, lines, number};

/// A number of a file of /proc.
fn proc(pid: u32, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Nobody reads: what is read of the files is bounded, and so is the memory. Then all of it comes.
#[test]
fn a_slow_reader_holds_the_reading() {
    let mut volume = Volume::new();
    let mut command = Place::default().without_capabilities().command(binary());
    command.args(volume.args("app.log", &[]));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    volume.write("app.log", 200_000);
    let pid = child.id();
    eventually(DEADLINE, "the pipe to be full", || (proc(pid, "io", "wchar:") >= 60_000).then_some(()));
    let (read, memory) = (proc(pid, "io", "rchar:"), proc(pid, "status", "VmRSS:"));
    let size = fs::metadata(volume.path("app.log")).unwrap().len();
    assert!(read < 2 << 20 && size > 3 << 20, "{read} of {size} bytes were read");
    assert!(memory < 64 << 10, "{memory} KiB");
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    });
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
    let text = reader.join().unwrap();
    assert!(child.wait().unwrap().success());
    let numbers: Vec<u64> = lines(&text).iter().map(number).collect();
    assert!(numbers.iter().copied().eq(1..=200_000), "{} lines", numbers.len());
}

/// Nobody ever reads: it ends nevertheless, and says that it left lines.
#[test]
fn an_output_that_takes_nothing_does_not_keep_it() {
    let mut volume = Volume::new();
    let mut command = Place::default().without_capabilities().command(binary());
    command.args(volume.args("app.log", &["--drain", "1"]));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    volume.write("app.log", 20_000);
    let pid = child.id();
    eventually(DEADLINE, "the pipe to be full", || (proc(pid, "io", "wchar:") >= 60_000).then_some(()));
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
    eventually(DEADLINE, "its end", || child.try_wait().unwrap());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("did not take the last lines"), "{said}");
}
