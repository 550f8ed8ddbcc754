//! Requests without an end, of which none may fail.

use std::path::Path;

use sidecar_tests::Program;

use crate::cluster::command_on_node;

/// Asks a Pod from the node until it is ended.
pub(crate) struct Load(Program);

impl Load {
    /// Begins, and waits until the first requests were answered.
    #[track_caller]
    pub(crate) fn start(host: &str, port: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/load.py");
        let arguments = ["python3", path.to_str().unwrap(), host, port, "/"];
        let mut program = Program::start(&mut command_on_node(&arguments));
        program.wait_for_output("asking");
        Self(program)
    }

    /// Ends; returns how many requests were answered.
    ///
    /// # Panics
    ///
    /// When one failed.
    #[track_caller]
    pub(crate) fn end(mut self) -> u64 {
        self.0.close_stdin();
        let said = self.0.wait().stdout;
        let told: serde_json::Value = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap();
        assert_eq!(told["failed"], serde_json::json!([]), "{told}");
        told["new"].as_u64().unwrap() + told["kept"].as_u64().unwrap()
    }
}
