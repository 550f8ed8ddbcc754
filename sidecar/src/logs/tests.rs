//! Files as applications and rotation treat them, without a process: each look is a call.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A directory, and what follows its files.
struct Bench {
    directory: TempDir,
    follower: Follower,
    counts: Counts,
    written: u32,
    /// Rotated files are followed by their own names: files have no order among them.
    unordered: bool,
}

fn follower(directory: &TempDir, glob: &str, counts: &Counts, saved: Option<Saved>) -> Follower {
    let glob = format!("{}/{glob}", directory.path().display()).parse().unwrap();
    Follower::new(vec![glob], Bounds { files: 16, line: 64 }, counts.clone(), saved)
}

impl Bench {
    fn new(glob: &str) -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), glob)
    }

    /// On another file system than the root's.
    fn on_volume(glob: &str) -> Self {
        Self::in_directory(tempfile::tempdir_in("/dev/shm").unwrap(), glob)
    }

    fn in_directory(directory: TempDir, glob: &str) -> Self {
        let counts = Counts::default();
        let follower = follower(&directory, glob, &counts, None);
        Self { directory, follower, counts, written: 0, unordered: glob.ends_with("log*") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Appends so many lines, numbered on.
    fn write(&mut self, name: &str, lines: u32) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        for _ in 0..lines {
            self.written += 1;
            writeln!(file, "this is line {}", self.written).unwrap();
        }
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// What is new, by its last word.
    fn read(&mut self) -> Vec<String> {
        self.follower.look();
        let mut batch = Batch::default();
        while !self.follower.read(&mut batch) {
            assert!(batch.records.len() < 100_000);
        }
        self.follower.commit();
        let last = |record: &record::Record| record.message.rsplit(' ').next().unwrap_or_default().to_owned();
        let mut words: Vec<String> = batch.records.iter().map(last).collect();
        if self.unordered {
            words.sort_by_key(|word| word.parse::<u32>().unwrap());
        }
        words
    }

    /// All lines from this one on, each once, in their order.
    #[track_caller]
    fn expect(&mut self, from: u32) {
        let expected: Vec<String> = (from..=self.written).map(|line| line.to_string()).collect();
        assert_eq!(self.read(), expected);
        assert_eq!(self.read(), [""; 0]);
    }

    /// Another process goes on by what this one remembered.
    fn restart(&mut self, glob: &str) {
        let saved = serde_json::to_vec(&Saved::new(self.follower.entries())).unwrap();
        let saved = serde_json::from_slice(&saved).unwrap();
        self.follower = follower(&self.directory, glob, &self.counts, Some(saved));
    }
}

#[test]
fn lines_come_as_they_are_written() {
    let mut bench = Bench::new("*.log");
    assert_eq!(bench.read(), [""; 0]);
    bench.write("app.log", 3);
    bench.expect(1);
    fs::write(bench.path("other.txt"), "not followed\n").unwrap();
    bench.write("app.log", 2);
    bench.expect(4);
}

#[test]
fn several_rotations_between_two_looks_lose_nothing() {
    for glob in ["app.log", "app.log*"] {
        let mut bench = Bench::new(glob);
        bench.write("app.log", 2);
        bench.expect(1);
        bench.write("app.log", 1);
        bench.rename("app.log", "app.log.2");
        bench.write("app.log", 2);
        bench.rename("app.log", "app.log.1");
        bench.write("app.log", 2);
        bench.expect(3);
        // Its writer has not noticed yet.
        bench.write("app.log.2", 1);
        bench.expect(8);
    }
}

#[test]
fn what_was_rotated_long_ago_is_not_taken_up() {
    let mut bench = Bench::new("app.log");
    bench.write("app.log.9", 5);
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(bench.path("app.log.9")).unwrap().set_modified(old).unwrap();
    bench.write("app.log", 1);
    bench.expect(6);
    bench.rename("app.log", "app.log.1");
    bench.write("app.log", 1);
    bench.expect(7);
}

#[test]
fn a_file_that_is_cut_begins_anew() {
    let mut bench = Bench::new("app.log");
    bench.write("app.log", 5);
    bench.expect(1);
    fs::write(bench.path("app.log"), "").unwrap();
    bench.write("app.log", 2);
    bench.expect(6);
    // Longer than before when it is looked at next.
    fs::write(bench.path("app.log"), "").unwrap();
    bench.write("app.log", 20);
    bench.expect(8);
    assert_eq!(bench.counts.truncated.load(std::sync::atomic::Ordering::Relaxed), 2);
}

/// Cut several times between two looks: each copy has what nobody else has.
#[test]
fn several_truncations_between_two_looks_lose_nothing() {
    for glob in ["app.log", "app.log*"] {
        let mut bench = Bench::new(glob);
        bench.write("app.log", 2);
        bench.expect(1);
        for generation in 0..4 {
            bench.write("app.log", 3);
            fs::copy(bench.path("app.log"), bench.path(&format!("app.log.{generation}"))).unwrap();
            if generation < 3 {
                fs::write(bench.path("app.log"), "").unwrap();
            }
        }
        bench.expect(3);
        fs::write(bench.path("app.log"), "").unwrap();
        bench.write("app.log", 1);
        bench.expect(15);
    }
}

/// What was not read before a truncation is in the copy, of which nothing else is written.
#[test]
fn a_copy_has_what_was_not_read() {
    for glob in ["app.log", "app.log*"] {
        let mut bench = Bench::new(glob);
        bench.write("app.log", 5);
        bench.expect(1);
        bench.write("app.log", 3);
        fs::copy(bench.path("app.log"), bench.path("app.log.1")).unwrap();
        fs::write(bench.path("app.log"), "").unwrap();
        bench.write("app.log", 2);
        bench.expect(6);
        bench.restart(glob);
        bench.write("app.log", 1);
        bench.expect(11);
    }
}

#[test]
fn a_restart_goes_on() {
    for glob in ["app.log", "app.log*"] {
        let mut bench = Bench::new(glob);
        bench.write("app.log", 4);
        bench.expect(1);
        bench.restart(glob);
        bench.expect(5);
        // Rotated twice, and cut, while nobody looks.
        bench.write("app.log", 1);
        bench.rename("app.log", "app.log.2");
        bench.write("app.log", 2);
        bench.rename("app.log", "app.log.1");
        bench.write("app.log", 2);
        bench.restart(glob);
        bench.expect(5);
        bench.write("app.log", 1);
        fs::copy(bench.path("app.log"), bench.path("app.log.0")).unwrap();
        fs::write(bench.path("app.log"), "").unwrap();
        bench.restart(glob);
        bench.write("app.log", 1);
        bench.expect(10);
    }
}

/// The name is gone as the process starts again; only what it was renamed to is there.
#[test]
fn a_restart_finds_what_was_renamed() {
    for glob in ["app.log", "app.log*"] {
        let mut bench = Bench::new(glob);
        bench.write("app.log", 3);
        bench.expect(1);
        bench.write("app.log", 1);
        bench.rename("app.log", "app.log.1");
        bench.restart(glob);
        bench.expect(4);
        bench.write("app.log", 1);
        bench.expect(5);
    }
}

#[test]
fn what_was_read_and_not_written_comes_again_under_the_same_id() {
    let mut bench = Bench::new("app.log");
    bench.write("app.log", 2);
    bench.follower.look();
    let mut first = Batch::default();
    bench.follower.read(&mut first);
    assert!(bench.follower.has_news());
    bench.restart("app.log");
    bench.follower.look();
    let mut second = Batch::default();
    bench.follower.read(&mut second);
    assert!(!bench.follower.has_news());
    assert_eq!(first.records, second.records);
    assert_eq!(first.records.len(), 2);
}

#[test]
fn links_are_followed_to_where_they_lead() {
    let mut bench = Bench::new("current.log");
    bench.write("a", 2);
    symlink("a", bench.path("current.log")).unwrap();
    bench.expect(1);
    bench.write("a", 1);
    bench.write("b", 1);
    symlink("b", bench.path("new")).unwrap();
    bench.rename("new", "current.log");
    bench.expect(3);
}

#[test]
fn no_link_leads_to_another_file_system() {
    let mut bench = Bench::on_volume("*.log");
    symlink("/proc/version", bench.path("stolen.log")).unwrap();
    bench.write("app.log", 1);
    bench.expect(1);
    assert!(bench.counts.unreadable.load(std::sync::atomic::Ordering::Relaxed) > 0);
    for glob in ["*/version", "directory/version"] {
        let mut bench = Bench::on_volume(glob);
        symlink("/proc", bench.path("directory")).unwrap();
        assert_eq!(bench.read(), [""; 0]);
    }
    // One of the image's own is its maker's.
    let (mut bench, mut volume) = (Bench::new("directory/*.log"), Bench::on_volume("*"));
    symlink(volume.directory.path(), bench.path("directory")).unwrap();
    volume.write("app.log", 1);
    assert_eq!(bench.read(), ["1"]);
}

#[test]
fn pipes_and_directories_are_left_alone() {
    let mut bench = Bench::new("*");
    fs::create_dir(bench.path("directory")).unwrap();
    nix::unistd::mkfifo(&bench.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("nowhere", bench.path("dangling")).unwrap();
    bench.write("app.log", 1);
    bench.expect(1);
}

#[test]
fn too_many_files_are_counted() {
    let mut bench = Bench::new("*.log");
    for name in 0..20 {
        bench.write(&format!("{name:02}.log"), 1);
    }
    assert_eq!(bench.read().len(), 16);
    assert!(bench.counts.left_out.load(std::sync::atomic::Ordering::Relaxed) >= 4);
}

#[test]
fn an_unfinished_line_waits_for_its_end() {
    let mut bench = Bench::new("app.log");
    fs::write(bench.path("app.log"), "half a line ").unwrap();
    assert_eq!(bench.read(), [""; 0]);
    bench.restart("app.log");
    let mut file = OpenOptions::new().append(true).open(bench.path("app.log")).unwrap();
    file.write_all(b"done\n").unwrap();
    assert_eq!(bench.read(), ["done"]);
}
