//! A Pod that `sidecar init` armed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{Cgroup, Config, Connection, Finished, Netns, Place, Program, binary_for_everyone, cli, netns};

/// A network namespace and a cgroup that `sidecar init` armed, with a cgroup below it for each of two containers.
/// Dropping it undoes it.
#[derive(Debug)]
pub struct Init {
    name: String,
    netns: Place,
    cgroup: Cgroup,
    binary: PathBuf,
    config: PathBuf,
    _directory: TempDir,
}

impl Init {
    /// The user that the proxy runs as, who is exempt from capture.
    pub const PROXY: u32 = 1337;

    /// Runs `sidecar init OPTIONS` in `netns` for a fresh cgroup.
    #[track_caller]
    pub fn arm(netns: &Netns, config: &Config, options: &[&str]) -> Self {
        Self::arm_at(netns.place(), config, options)
    }

    /// Likewise at this place, which must be in a network namespace.
    #[track_caller]
    pub fn arm_at(place: Place, config: &Config, options: &[&str]) -> Self {
        let (directory, binary) = binary_for_everyone();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, config.text()).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let cgroup = Cgroup::new("init");
        for container in ["app", "proxy"] {
            std::fs::create_dir(cgroup.path().join(container)).unwrap();
        }
        let name = netns::unique("init");
        let init = Self { name, netns: place, cgroup, binary, config: file, _directory: directory };
        let mut command = init.netns.command(&init.binary);
        command.args(["init", "--name", &init.name, "--config"]).arg(&init.config);
        command.arg("--cgroup").arg(init.cgroup.path()).args(options);
        Finished::of(&mut command).success();
        init
    }

    /// The instance's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> PathBuf {
        Path::new("/run/sidecar").join(&self.name)
    }

    /// The place of the application.
    pub fn app(&self) -> Place {
        self.container("app")
    }

    /// The place of the proxy, under the same programs.
    pub fn beside(&self) -> Place {
        self.container("proxy")
    }

    /// Starts `sidecar proxy` as [`Self::PROXY`].
    #[track_caller]
    pub fn proxy(&self) -> Program {
        self.proxy_in(self.beside())
    }

    /// The same in a container whose seccomp profile is the runtimes' default.
    #[track_caller]
    pub fn proxy_without_bpf(&self) -> Program {
        self.proxy_in(self.beside().without_bpf())
    }

    fn proxy_in(&self, place: Place) -> Program {
        let mut command = place.as_uid(Self::PROXY).command(&self.binary);
        command.args(["proxy", "--name", &self.name, "--config"]).arg(&self.config);
        Program::start(&mut command).ended_by(Signal::SIGTERM)
    }

    /// What its proxy serves now.
    #[track_caller]
    pub fn connections(&self) -> Vec<Connection> {
        let args = ["connections", "--instance", &self.name, "-o", "json"];
        Connection::list(&cli(&self.netns, &args).success())
    }

    /// Undoes it.
    #[track_caller]
    pub fn detach(&self) -> Finished {
        cli(&self.netns, &["detach", &self.name])
    }

    fn container(&self, name: &str) -> Place {
        self.netns.clone().in_cgroup(&self.cgroup.path().join(name))
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Fails when it was detached before.
        let _ = self.netns.command(&self.binary).args(["detach", &self.name]).output();
    }
}
