use std::io::Write;

use nix::sys::signal::Signal;
use sidecar_tests::{Place, Program, binary, eventually};

use super::{Volume, by_number, expect_each_once, lines};

/// Killed again and again while files are written and rotated: each line is there, and what comes again has its id.
#[test]
fn kills_lose_nothing() {
    let mut volume = Volume::new();
    let mut runs = Vec::new();
    for round in 0..6 {
        let mut program = volume.follow("app.log", &[]);
        volume.write("app.log", 2000);
        program.wait_for_output("this is line");
        program.signal(Signal::SIGKILL);
        runs.push(lines(&program.wait().stdout));
        if round % 2 == 0 {
            volume.rename("app.log", &format!("app.log.{round}"));
        }
    }
    let mut program = volume.follow("app.log", &[]);
    volume.write("app.log", 1);
    program.wait_for_output(&format!("this is line {}\"", volume.written));
    program.signal(Signal::SIGTERM);
    runs.push(lines(&program.wait().stdout));
    let times = by_number(&runs);
    let missing = (1..=volume.written).find(|number| !times.contains_key(number));
    assert_eq!(missing, None, "of {}", volume.written);
    // One batch for each kill at most.
    let again = times.values().filter(|times| **times > 1).count();
    assert!(again <= 6 * 1000, "{again} lines came again");
}

/// After a graceful end nothing comes again.
#[test]
fn ends_repeat_nothing() {
    let mut volume = Volume::new();
    let mut runs = Vec::new();
    for _ in 0..3 {
        volume.write("app.log", 700);
        let mut program = volume.follow("app.log", &[]);
        program.signal(Signal::SIGTERM);
        // It may not have begun to hear signals.
        let ended = program.wait();
        runs.push(lines(&ended.stdout));
    }
    let program = volume.follow("app.log", &[]);
    volume.write("app.log", 1);
    let last = format!("this is line {}\"", volume.written);
    eventually(sidecar_tests::DEADLINE, &last, || program.stdout().contains(&last).then_some(()));
    runs.push(lines(&program.stdout()));
    let times = by_number(&runs);
    assert_eq!(times.len() as u64, volume.written);
    assert!(times.values().all(|times| *times == 1));
}

/// Asked to end, it still takes what is written meanwhile, as by an application that ends beside it.
#[test]
fn last_words_are_taken() {
    let mut volume = Volume::new();
    volume.write("app.log", 1);
    let mut program = volume.follow("app.log", &[]);
    program.wait_for_output("this is line 1\"");
    program.signal(Signal::SIGTERM);
    volume.write("app.log", 1);
    let ended = program.wait();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(lines(&ended.stdout).len(), 2);
}

/// Without a checkpoint nobody comes back for the rest of a line.
#[test]
fn an_unfinished_line_is_taken_at_the_end() {
    let mut volume = Volume::new();
    volume.write("app.log", 1);
    volume.append("app.log").write_all(b"no end").unwrap();
    let mut command = Place::default().without_capabilities().command(binary());
    let mut program = Program::start(command.args(volume.args("app.log", &[])));
    program.wait_for_output("this is line 1\"");
    assert!(!program.stdout().contains("no end"));
    program.signal(Signal::SIGTERM);
    let lines = lines(&program.wait().stdout);
    assert_eq!((&lines[1]["message"], &lines[1]["partial"]), (&"no end".into(), &true.into()));
}

#[test]
fn two_do_not_share_a_checkpoint() {
    let mut volume = Volume::new();
    volume.write("app.log", 1);
    let mut first = volume.follow("app.log", &[]);
    first.wait_for_output("this is line 1\"");
    let ended = volume.follow("app.log", &[]).wait();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("another process uses it"), "{ended:?}");
    expect_each_once(&volume, first);
}
