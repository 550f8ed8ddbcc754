//! Cgroups of version 2.

use std::path::{Path, PathBuf};

use crate::Place;
use crate::netns::unique;
use crate::wait::{DEADLINE, within};

/// A cgroup of its own below the test's, removed with all processes in it when dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup; `hint` is the readable part of its unique name.
    pub fn new(hint: &str) -> Self {
        let path = own().join(unique(hint));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("create {}: {error}", path.display()));
        Self { path }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place inside.
    pub fn place(&self) -> Place {
        Place::default().in_cgroup(&self.path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The cgroup that the test runs in, which programs that it starts inherit.
pub(crate) fn own() -> PathBuf {
    let (root, mount) = mount();
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path =
        membership.lines().find_map(|line| line.strip_prefix("0::")).expect("no cgroup v2 in the kernel");
    let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    mount.join(below.trim_start_matches('/'))
}

/// The cgroup at the root of the first cgroup2 mount, and where that is (proc(5), /proc/pid/mountinfo).
fn mount() -> (String, PathBuf) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .find(|(_, filesystem)| filesystem.starts_with("cgroup2 "))
        .and_then(|(mount, _)| {
            let mut fields = mount.split(' ').skip(3);
            Some((fields.next()?.to_owned(), fields.next()?.into()))
        })
        .expect("cgroup v2 is mounted nowhere: mount -t cgroup2 none DIRECTORY")
}

/// The processes in a cgroup and below it.
pub(crate) fn members(path: &Path) -> Vec<i32> {
    let own = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let below = children(path).into_iter().flat_map(|child| members(&child));
    own.lines().filter_map(|pid| pid.parse().ok()).chain(below).collect()
}

/// Removes a cgroup with everything in it and below it, as far as that succeeds.
pub(crate) fn remove(path: &Path) {
    if !path.exists() {
        return;
    }
    kill(path);
    remove_empty(path);
}

/// Kills every process in a cgroup and below it.
pub(crate) fn kill(path: &Path) {
    let _ = std::fs::write(path.join("cgroup.kill"), "1");
    within(DEADLINE, || members(path).is_empty().then_some(()));
}

fn remove_empty(path: &Path) {
    for child in children(path) {
        remove_empty(&child);
    }
    within(DEADLINE, || (std::fs::remove_dir(path).is_ok() || !path.exists()).then_some(()));
}

fn children(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Finished, Program, require};

    #[test]
    fn programs_start_inside_and_end_with_it() {
        require!(root);
        let cgroup = Cgroup::new("inside");
        let path = cgroup.path().to_owned();
        let seen = Finished::of(cgroup.place().command("cat").arg("/proc/self/cgroup")).success();
        assert!(seen.contains(path.file_name().unwrap().to_str().unwrap()), "{seen}");

        std::fs::create_dir(path.join("below")).unwrap();
        let below = Place::default().in_cgroup(&path.join("below"));
        let mut program = Program::start(below.command("sh").args(["-c", "echo in; exec sleep 1000"]));
        program.wait_for_output("in");
        assert_eq!(members(&path), [program.pid().as_raw()]);
        // The test's own thread reaps the program, as init would.
        std::thread::scope(|scope| {
            scope.spawn(|| drop(cgroup));
            program.wait();
        });
        assert!(!path.exists());
    }
}
