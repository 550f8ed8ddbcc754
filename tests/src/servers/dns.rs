use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::python;
use crate::{Place, Program};

/// `programs/dns_server.py`, which counts queries and whose answers can be changed.
#[derive(Debug)]
pub struct Dns {
    _program: Program,
    files: TempDir,
    zone: Map<String, Value>,
}

impl Dns {
    /// Starts one that knows no name on port 53 of this address at `place`.
    #[track_caller]
    pub fn start(place: &Place, address: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("zone"), "{}").unwrap();
        std::fs::write(path("log"), "").unwrap();
        std::fs::write(path("resolv.conf"), format!("nameserver {address}\n")).unwrap();
        let mut command = python(place, "dns_server.py");
        let mut program = Program::start(command.args([address, "53"]).arg(path("zone")).arg(path("log")));
        program.wait_for_output("listening");
        Self { _program: program, files, zone: Map::new() }
    }

    /// A `resolv.conf` that names it.
    pub fn resolv_conf(&self) -> PathBuf {
        self.files.path().join("resolv.conf")
    }

    /// A name has these addresses from now on; without any, it cannot be looked up.
    pub fn set(&mut self, name: &str, ttl: u32, addresses: &[&str]) {
        self.zone.insert(name.to_owned(), json!({"ttl": ttl, "addresses": addresses}));
        // In one step: it is read at each query.
        let new = self.files.path().join("zone.new");
        std::fs::write(&new, Value::from(self.zone.clone()).to_string()).unwrap();
        std::fs::rename(new, self.files.path().join("zone")).unwrap();
    }

    /// How often a name was asked for.
    pub fn queries(&self, name: &str) -> usize {
        let log = std::fs::read_to_string(self.files.path().join("log")).unwrap();
        log.lines().filter(|line| *line == name).count()
    }
}
