//! The `sidecar` binary.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::wait::{DEADLINE, eventually, within};
use crate::{Config, Connection, Finished, Footprint, Netns, Place, Probe, Program};
use crate::{cgroup, control, environment, netns, probe};

/// Where each instance keeps a directory of its name.
const INSTANCES: &str = "/run/sidecar";

/// A `sidecar run`. Dropping it ends it and removes what it left.
#[derive(Debug)]
pub struct Sidecar {
    program: Program,
    name: String,
    netns: Place,
    directory: TempDir,
}

/// The binary under test: `SIDECAR_BIN`, or the workspace's release or debug build.
///
/// # Panics
///
/// When there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = environment::binary() {
        return path;
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    ["release/sidecar", "debug/sidecar"]
        .map(|build| target.join(build))
        .into_iter()
        .find(|path| path.exists())
        .expect("there is no sidecar to test: run `cargo xtask build`, or set SIDECAR_BIN")
}

/// A copy of the binary that every user can run: the build may be in a directory of root's.
pub fn binary_for_everyone() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("sidecar");
    std::fs::copy(binary(), &copy).unwrap();
    std::fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    (directory, copy)
}

/// Runs `sidecar ARGS` at `place` to its end.
#[track_caller]
pub fn cli(place: &Place, args: &[&str]) -> Finished {
    Finished::of(place.command(binary()).args(args))
}

impl Sidecar {
    /// Arms `netns` and a fresh cgroup, and waits until they are: programs started at [`Self::place`] are then
    /// intercepted.
    #[track_caller]
    pub fn start(netns: &Netns, config: &Config) -> Self {
        let mut sidecar = Self::run(netns, config, &["sleep", "infinity"]);
        sidecar.wait_until_ready();
        sidecar
    }

    /// Likewise, from this place, which must be in `netns`.
    #[track_caller]
    pub fn start_at(place: &Place, netns: &Netns, config: &Config) -> Self {
        let mut sidecar = Self::begin_at(place, netns, config);
        sidecar.wait_until_ready();
        sidecar
    }

    /// Likewise, without waiting.
    #[track_caller]
    pub fn begin_at(place: &Place, netns: &Netns, config: &Config) -> Self {
        Self::launch(place.command(binary()), netns, config, &[], &["sleep", "infinity"])
    }

    /// Likewise, by a configuration that is there already: a file or a directory.
    #[track_caller]
    pub fn start_by(place: &Place, netns: &Netns, config: &Path) -> Self {
        let command = place.command(binary());
        let directory = tempfile::tempdir().unwrap();
        let mut sidecar = Self::launch_by(command, netns, config, directory, &[], &["sleep", "infinity"]);
        sidecar.wait_until_ready();
        sidecar
    }

    /// Starts `sidecar run -- CMD` in `netns`.
    #[track_caller]
    pub fn run(netns: &Netns, config: &Config, cmd: &[&str]) -> Self {
        Self::run_with(netns, config, &[], cmd)
    }

    /// Starts `sidecar run OPTIONS -- CMD` in `netns`; without CMD when `cmd` is empty.
    #[track_caller]
    pub fn run_with(netns: &Netns, config: &Config, options: &[&str], cmd: &[&str]) -> Self {
        Self::launch(netns.place().command(binary()), netns, config, options, cmd)
    }

    /// Starts `ip netns exec NETNS sidecar run -- CMD`.
    #[track_caller]
    pub fn run_by_ip_netns_exec(netns: &Netns, config: &Config, cmd: &[&str]) -> Self {
        Self::launch(netns.ip_netns_exec(binary()), netns, config, &[], cmd)
    }

    /// Starts `nohup sidecar run -- CMD` in `netns`.
    #[track_caller]
    pub fn run_by_nohup(netns: &Netns, config: &Config, cmd: &[&str]) -> Self {
        let mut command = netns.place().command("nohup");
        command.arg(binary());
        Self::launch(command, netns, config, &[], cmd)
    }

    fn launch(command: Command, netns: &Netns, config: &Config, options: &[&str], cmd: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, config.text()).unwrap();
        Self::launch_by(command, netns, &file, directory, options, cmd)
    }

    fn launch_by(
        mut command: Command,
        netns: &Netns,
        config: &Path,
        directory: TempDir,
        options: &[&str],
        cmd: &[&str],
    ) -> Self {
        let name = netns::unique("run");
        command.args(["run", "--name", &name, "--config"]).arg(config).args(options);
        if !cmd.is_empty() {
            command.arg("--").args(cmd);
        }
        let program = Program::start(&mut command).ended_by(Signal::SIGTERM);
        Self { program, name, netns: netns.place(), directory }
    }

    /// Waits until the control socket answers and CMD, if any, can have been started.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        eventually(DEADLINE, &format!("{} to be ready", self.name), || {
            assert!(!self.program.has_ended(), "sidecar ended: {}{}", self.stdout(), self.program.stderr());
            let armed = !cgroup::members(&self.cgroup()).is_empty();
            (armed && self.get("/connections").is_ok()).then_some(())
        });
    }

    /// Its configuration's file, unless it was started by another.
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("config.yaml")
    }

    /// The instance's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// What CMD has printed so far.
    pub fn stdout(&self) -> String {
        self.program.stdout()
    }

    /// The network namespace and CMD's cgroup: where an intercepted program runs.
    pub fn place(&self) -> Place {
        self.netns.clone().in_cgroup(&self.cgroup().join("app"))
    }

    /// Runs a probe under interception.
    #[track_caller]
    pub fn probe(&self, args: &[&str]) -> Value {
        probe(&self.place(), args)
    }

    /// Runs a probe under interception and keeps its connections open.
    #[track_caller]
    pub fn hold(&self, args: &[&str]) -> Probe {
        Probe::hold(&self.place(), args)
    }

    /// This instance's live connections.
    #[track_caller]
    pub fn connections(&self) -> Vec<Connection> {
        Connection::list(&self.get("/connections").unwrap())
    }

    /// Waits for a live connection of this direction and original destination.
    #[track_caller]
    pub fn connection(&self, direction: &str, destination: &str) -> Connection {
        let found =
            within(DEADLINE, || self.connections().into_iter().find(|one| one.is(direction, destination)));
        found.unwrap_or_else(|| {
            panic!("no {direction} connection to {destination} in {:?}", self.connections())
        })
    }

    /// The port of its server of this name, `admin`, `metrics` or `health`, as `instance.json` says.
    #[track_caller]
    pub fn port(&self, server: &str) -> u16 {
        let file = self.directory().join("instance.json");
        let state: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let port = state["ports"][server].as_u64().and_then(|port| u16::try_from(port).ok());
        port.filter(|port| *port != 0).unwrap_or_else(|| panic!("no port of {server} in {state}"))
    }

    /// Asks its server of this name for `path` with curl, to which `options` are given too.
    #[track_caller]
    pub fn ask(&self, server: &str, path: &str, options: &[&str]) -> Finished {
        let url = format!("http://127.0.0.1:{}{path}", self.port(server));
        let mut curl = self.netns.command("curl");
        Finished::of(curl.args(["-sS", "--fail", "--max-time", "10"]).args(options).arg(url))
    }

    /// The value of a metric's sample, which is named with its labels as they are printed.
    #[track_caller]
    pub fn metric(&self, sample: &str) -> u64 {
        let metrics = self.ask("metrics", "/metrics", &[]).success();
        let found = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let value = found.unwrap_or_else(|| panic!("no {sample} in {metrics}"));
        value.parse().unwrap_or_else(|error| panic!("{sample} is {value}: {error}"))
    }

    /// What it has in the kernel and in the file system now.
    pub fn footprint(&self, netns: &Netns) -> Footprint {
        Footprint::of(&self.name, self.program.pid().as_raw(), netns)
    }

    /// Ends it as the user would.
    #[track_caller]
    pub fn terminate(&mut self) -> Finished {
        self.program.signal(Signal::SIGTERM);
        self.program.wait()
    }

    /// Ends it as the kernel would, which leaves what it armed and what runs under it.
    #[track_caller]
    pub fn kill(&mut self) {
        self.program.signal(Signal::SIGKILL);
        self.program.wait();
    }

    /// Ends what runs under it.
    #[track_caller]
    pub fn end_apps(&self) {
        cgroup::kill(&self.cgroup().join("app"));
    }

    /// Undoes what an instance that was killed has left, from outside of its network namespace.
    #[track_caller]
    pub fn detach(&self) -> Finished {
        cli(&Place::default(), &["detach", &self.name])
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        control::get(&self.directory().join("control.sock"), path)
    }

    /// Where it keeps its files while it is there.
    pub fn directory(&self) -> PathBuf {
        Path::new(INSTANCES).join(&self.name)
    }

    fn cgroup(&self) -> PathBuf {
        cgroup::own().join(format!("sidecar-{}", self.name))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if !self.program.has_ended() {
            self.program.signal(Signal::SIGTERM);
            within(DEADLINE, || self.program.has_ended().then_some(()));
        }
        let directory = self.directory();
        // All gone already, unless it was killed.
        if directory.exists() {
            let _ = self.netns.command(binary()).args(["detach", &self.name]).output();
        }
        // What is still there is a bug, but not to be one for other tests.
        cgroup::remove(&self.cgroup());
        if directory.exists() {
            let _ = umount2(&directory.join("bpf"), MntFlags::MNT_DETACH);
            let _ = std::fs::remove_dir_all(&directory);
        }
    }
}
