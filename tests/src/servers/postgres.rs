use std::os::unix::fs::chown;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::User;
use tempfile::TempDir;

use super::accepts;
use crate::{Finished, Netns, Place, Program};

/// A `PostgreSQL` server on port 5432 of every address, with an empty cluster of its own that trusts everybody.
#[derive(Debug)]
pub struct Postgres {
    _program: Program,
    _directory: TempDir,
}

impl Postgres {
    /// Starts it at `place`, which must be in `netns`, as the user `postgres`: it refuses to run as root.
    #[track_caller]
    pub fn start(netns: &Netns, place: &Place) -> Self {
        let programs = Self::programs().expect("PostgreSQL is not installed");
        let directory = tempfile::tempdir().unwrap();
        let user = User::from_name("postgres").unwrap().expect("no user `postgres`");
        chown(directory.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        let cluster = directory.path().join("cluster");
        let mut initialise = Place::default().as_user("postgres").command(programs.join("initdb"));
        initialise.args(["--no-sync", "--no-instructions", "--auth=trust", "--pgdata"]).arg(&cluster);
        Finished::of(initialise.current_dir(directory.path())).success();
        let access = "host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n";
        std::fs::write(cluster.join("pg_hba.conf"), access).unwrap();

        let mut command = place.clone().as_user("postgres").command(programs.join("postgres"));
        command.arg("-D").arg(&cluster).args([
            "-F",
            "-c",
            "listen_addresses=*",
            "-c",
            "unix_socket_directories=",
        ]);
        // SIGINT: fast shutdown, which ends its own processes first.
        let program = Program::start(command.current_dir(directory.path())).ended_by(Signal::SIGINT);
        Self { _program: accepts(netns, 5432, program), _directory: directory }
    }

    /// What the server at `host` answers to a query from `place`.
    #[track_caller]
    pub fn query(place: &Place, host: &str, sql: &str) -> String {
        let mut command = place.command("psql");
        command.args(["-h", host, "-U", "postgres", "-d", "postgres", "-AtX", "-c", sql]);
        Finished::of(&mut command).success()
    }

    /// Where the server's programs are: Debian keeps them apart by version.
    pub fn programs() -> Option<PathBuf> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        versions.map(|version| version.path().join("bin")).find(|path| path.join("initdb").exists())
    }
}
