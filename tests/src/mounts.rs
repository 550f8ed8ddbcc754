//! A mount namespace with a bpffs in the usual place, as a node has it; the machine that runs the tests may have none.

use std::path::PathBuf;
use std::process::Command;

use crate::{Finished, Program};

/// Where a node's bpffs is.
const BPFFS: &str = "/sys/fs/bpf";

/// Mounts that are seen by whoever is started in them. They go when this is dropped and nobody is there any more.
#[derive(Debug)]
pub struct Mounts {
    holder: Program,
}

impl Mounts {
    /// The machine's, and a bpffs.
    #[track_caller]
    pub fn with_bpffs() -> Self {
        let mount = format!("mount -t bpf bpf {BPFFS} && echo there && exec sleep infinity");
        let mut holder = Program::start(Command::new("unshare").args(["--mount", "--", "sh", "-c", &mount]));
        holder.wait_for_output("there");
        Self { holder }
    }

    /// The file of the namespace.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/mnt", self.holder.pid()).into()
    }

    /// The paths of all that is pinned there; empty when there is nothing.
    #[track_caller]
    pub fn pinned(&self) -> Vec<String> {
        // The kernel has two files of its own there.
        let listed = self.run(&format!("find {BPFFS} -mindepth 1 ! -name '*.debug' -printf '%P\\n'"));
        listed.lines().map(str::to_owned).collect()
    }

    /// How many entries the map has that is pinned there, by its path, which may be a pattern of the shell's.
    #[track_caller]
    pub fn entries(&self, path: &str) -> usize {
        let dumped = self.run(&format!("bpftool --json map dump pinned {BPFFS}/{path}"));
        let entries: Vec<serde_json::Value> = serde_json::from_str(&dumped).unwrap();
        entries.len()
    }

    /// The kernel's numbers of the maps that are pinned there, by their paths, which may be patterns likewise.
    #[track_caller]
    pub fn map_ids(&self, paths: &str) -> Vec<u64> {
        let each =
            format!("cd {BPFFS} && for map in {paths}; do bpftool --json map show pinned $map && echo; done");
        let shown = self.run(&each);
        let lines = shown.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap())
            .collect()
    }

    #[track_caller]
    fn run(&self, script: &str) -> String {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--mount={}", self.path().display())).args(["--", "sh", "-c", script]);
        Finished::of(&mut inside).success()
    }
}
