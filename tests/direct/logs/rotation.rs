use std::fs;

use serde_json::json;
use sidecar_tests::Program;

use super::{Volume, expect_each, expect_each_once, number};

#[test]
fn a_line_says_where_it_comes_from() {
    let mut volume = Volume::new();
    volume.write("app.log", 1);
    let program = volume.follow("*.log", &[]);
    let lines = expect_each_once(&volume, program);
    let line = &lines[0];
    assert_eq!((&line["pod"], &line["namespace"]), (&json!("web-0"), &json!("shop")), "{line}");
    assert_eq!(line["file"], volume.path("app.log").to_str().unwrap());
    assert!(line["node"].is_null() && line["time"].as_str().unwrap().ends_with('Z'), "{line}");
}

/// What was rotated before it began would be nobody's.
fn begun(volume: &mut Volume, glob: &str) -> Program {
    volume.write("app.log", 1);
    let mut program = volume.follow(glob, &[]);
    program.wait_for_output("this is line 1\"");
    program
}

/// A file is renamed again and again while it is written to as fast as can be, as often as several times between two looks.
#[test]
fn rotation_under_load_loses_nothing() {
    for glob in ["app.log", "app*"] {
        let mut volume = Volume::new();
        let program = begun(&mut volume, glob);
        for generation in 0..40 {
            volume.write("app.log", 500);
            if generation % 8 != 0 {
                volume.rename("app.log", &format!("app.log.{generation}"));
            }
        }
        volume.write("app.log", 10);
        // Several rotations between two looks are told apart by the time of change alone, which is coarse.
        expect_each(&volume, program, true);
    }
}

/// A writer that keeps its file open as that is renamed, and notices late.
#[test]
fn what_is_written_after_a_rename_is_read() {
    use std::io::Write;
    let mut volume = Volume::new();
    let mut program = volume.follow("app.log", &[]);
    volume.write("app.log", 3);
    let mut old = volume.append("app.log");
    program.wait_for_output("this is line 3\"");
    volume.rename("app.log", "app.log.1");
    volume.written += 1;
    writeln!(old, "this is line {}", volume.written).unwrap();
    program.wait_for_output("this is line 4\"");
    volume.write("app.log", 1);
    expect_each_once(&volume, program);
}

/// As logrotate's `copytruncate` does it. The writer waits meanwhile: what is written between copy and truncation is lost to
/// everybody. What was not read before the cut is looked for in the copy, which is not promised.
#[test]
fn truncation_loses_nothing_that_was_read_before() {
    for glob in ["app.log", "app*"] {
        let mut volume = Volume::new();
        let mut program = begun(&mut volume, glob);
        for generation in 0..20 {
            volume.write("app.log", 1000);
            program.wait_for_output(&format!("this is line {}\"", volume.written));
            let copy = volume.path(&format!("app.log.{generation}"));
            fs::copy(volume.path("app.log"), copy).unwrap();
            fs::File::options().write(true).open(volume.path("app.log")).unwrap().set_len(0).unwrap();
        }
        volume.write("app.log", 10);
        expect_each(&volume, program, glob == "app*");
    }
}

/// Files that appear late, below directories that do.
#[test]
fn files_that_appear_late_are_found() {
    let mut volume = Volume::new();
    let program = volume.follow("*/logs/*.log", &[]);
    for name in ["a", "b"] {
        fs::create_dir_all(volume.path(name).join("logs")).unwrap();
    }
    // In one file, since files have no order among them.
    volume.write("b/logs/app.log", 50);
    fs::write(volume.path("a/logs/app.txt"), "not this\n").unwrap();
    let lines = expect_each_once(&volume, program);
    assert_eq!(number(lines.last().unwrap()), 50);
}

#[test]
fn long_lines_and_bytes_that_are_no_text_are_marked() {
    let volume = Volume::new();
    let text = [&[b'x'; 40][..], b"\ncaf\xe9\n", b"end\n"].concat();
    fs::write(volume.path("app.log"), text).unwrap();
    let mut program = volume.follow("app.log", &["--max-line", "32"]);
    let lines = super::lines(&program.wait_for_output("\"end\""));
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (line["message"].as_str().unwrap(), !line["partial"].is_null(), !line["invalidUtf8"].is_null())
        })
        .collect();
    let long = "x".repeat(32);
    let expected = [
        (&*long, true, false),
        ("xxxxxxxx", false, false),
        ("caf\u{fffd}", false, true),
        ("end", false, false),
    ];
    assert_eq!(seen, expected);
}
