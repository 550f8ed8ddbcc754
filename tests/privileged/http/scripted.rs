//! An upstream that does what it is told, right or wrong: `programs/scripted.py`.

use serde_json::{Value, json};
use sidecar_tests::{Program, python};

use super::{Http, client};

/// Where it listens.
pub(super) const PORT: u16 = 8086;

/// The upstream.
pub(super) struct Scripted(Program);

impl Scripted {
    /// Starts it behind the sidecar with the steps for each path.
    #[track_caller]
    pub(super) fn start(http: &Http, scripts: &Value) -> Self {
        let mut script = python(&http.to(), "scripted.py");
        let mut server = Program::start(script.arg(PORT.to_string()).arg(scripts.to_string()));
        server.wait_for_output("listening");
        Self(server)
    }

    /// Waits until it has said this.
    #[track_caller]
    pub(super) fn says(&mut self, text: &str) {
        self.0.wait_for_output(text);
    }

    /// What it says of its connection for this path, when that is over.
    #[track_caller]
    pub(super) fn told(&mut self, path: &str) -> Value {
        let begins = format!("{{\"path\": \"{path}\", ");
        let said = self.0.wait_for_output(&begins);
        let line = said.lines().find(|line| line.starts_with(&begins)).unwrap();
        serde_json::from_str(line).unwrap()
    }
}

/// Runs one case of `programs/http_client.py` with it: these steps, and what comes then.
#[track_caller]
pub(super) fn one(http: &Http, steps: Value, then: impl Into<Value>) -> Value {
    let case = json!([{"name": "scripted", "steps": steps, "answers": then.into()}]);
    client(&http.from(), http.way.reached(PORT), "cases", &[&case.to_string()]).remove(0)
}
