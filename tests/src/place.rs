//! Where a program runs: network namespace, cgroup, user.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{User, geteuid};

use crate::Mounts;
use crate::servers::interpreter;

/// A network namespace, a cgroup and a user to start programs under; by default the test's own.
///
/// The steps are ordinary programs that replace each other by exec, so the started process keeps its pid, and the
/// harness needs no code between fork and exec.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Place {
    netns: Option<PathBuf>,
    mounts: Option<PathBuf>,
    cgroup: Option<PathBuf>,
    /// uid, gid, and how setpriv(1) is to set the supplementary groups.
    user: Option<(u32, u32, &'static str)>,
    powerless: bool,
    without_bpf: bool,
    /// Files that are seen in the place of others.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Place {
    /// The same place in the network namespace whose file `path` is.
    pub fn in_netns(mut self, path: &Path) -> Self {
        self.netns = Some(path.to_owned());
        self
    }

    /// The same place among these mounts.
    pub fn in_mounts(mut self, mounts: &Mounts) -> Self {
        self.mounts = Some(mounts.path());
        self
    }

    /// The same place in the cgroup whose directory `path` is.
    pub fn in_cgroup(mut self, path: &Path) -> Self {
        self.cgroup = Some(path.to_owned());
        self
    }

    /// The same place as a user of this name, with the user's groups and no capability.
    pub fn as_user(mut self, name: &str) -> Self {
        let user = User::from_name(name).ok().flatten();
        let user = user.unwrap_or_else(|| panic!("there is no user `{name}`"));
        self.user = Some((user.uid.as_raw(), user.gid.as_raw(), "--init-groups"));
        self
    }

    /// The same place as this user and group, which need no name, with no capability.
    pub fn as_uid(mut self, id: u32) -> Self {
        self.user = Some((id, id, "--clear-groups"));
        self
    }

    /// The same place and user without any capability, which nothing that is executed there can regain.
    pub fn without_capabilities(mut self) -> Self {
        self.powerless = true;
        self
    }

    /// The same place with bpf(2) refused, as in a container.
    pub fn without_bpf(mut self) -> Self {
        self.without_bpf = true;
        self
    }

    /// The same place with a file of its own in the place of the system's, which the rest of the machine keeps seeing.
    pub fn with_file(mut self, file: &Path, in_place_of: &str) -> Self {
        self.files.push((file.to_owned(), in_place_of.into()));
        self
    }

    /// A command that will run `program` here. It is sent SIGTERM when the test's thread is gone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut words: Vec<PathBuf> = Vec::new();
        let namespaces = [("--net=", &self.netns), ("--mount=", &self.mounts)];
        for (option, namespace) in namespaces {
            if let Some(namespace) = namespace {
                let mut option = OsString::from(option);
                option.push(namespace);
                words.extend(["nsenter".into(), option.into(), "--".into()]);
            }
        }
        if !self.files.is_empty() {
            words.extend(["unshare".into(), "--mount".into(), "--".into()]);
        }
        for (file, in_place_of) in &self.files {
            let mount = r#"mount --bind "$0" "$1" && shift && exec "$@""#;
            words.extend(["sh".into(), "-c".into(), mount.into(), file.clone(), in_place_of.clone()]);
        }
        if let Some(cgroup) = &self.cgroup {
            let join = r#"echo $$ >"$0"/cgroup.procs && exec "$@""#;
            words.extend(["sh".into(), "-c".into(), join.into(), cgroup.clone()]);
        }
        words.push("setpriv".into());
        if let Some((uid, gid, groups)) = self.user {
            words.extend([format!("--reuid={uid}").into(), format!("--regid={gid}").into(), groups.into()]);
        }
        if self.powerless && geteuid().is_root() {
            words.extend(["--bounding-set=-all".into(), "--inh-caps=-all".into()]);
        }
        // Last, because a change of user clears it (prctl(2), PR_SET_PDEATHSIG).
        words.extend(["--pdeathsig".into(), "TERM".into(), "--".into()]);
        if self.without_bpf {
            // Not as a file: the user of the place need not be able to read it.
            words.extend([interpreter(), "-c".into(), include_str!("../programs/without_bpf.py").into()]);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Finished, require};

    #[test]
    fn files_are_replaced_for_the_program_alone() {
        require!(root);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "its own\n").unwrap();
        let everyone = std::fs::read_to_string("/etc/hosts").unwrap();
        let place = Place::default().with_file(file.path(), "/etc/hosts");
        assert_eq!(Finished::of(place.command("cat").arg("/etc/hosts")).success(), "its own\n");
        assert_eq!(std::fs::read_to_string("/etc/hosts").unwrap(), everyone);
    }

    #[test]
    fn users_have_no_capability() {
        require!(root);
        let nobody = User::from_name("nobody").unwrap().unwrap().uid.as_raw();
        let everywhere = Place::default();
        for (place, uid) in [
            (everywhere.clone().as_user("nobody"), nobody),
            (everywhere.clone().as_uid(1337), 1337),
            (everywhere.without_capabilities(), 0),
        ] {
            let mut command = place.command("grep");
            let seen = Finished::of(command.args(["-E", "^(Uid|CapEff|CapPrm):", "/proc/self/status"]));
            assert!(seen.stdout.contains(&format!("Uid:\t{uid}\t")), "{seen:?}");
            assert_eq!(seen.stdout.matches("0000000000000000").count(), 2, "{seen:?}");
        }
    }
}
